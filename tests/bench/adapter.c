/* SPDX-License-Identifier: Apache-2.0 */
#include "adapter.h"

#include <string.h>

static int on_set_filter(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	(void)userdata;
	(void)error;
	return sd_bus_reply_method_return(m, NULL);
}

static int set_discovering(struct adapter *adapter, sd_bus_message *m, int discovering)
{
	adapter->discovering = discovering;
	TRY(sd_bus_reply_method_return(m, NULL));
	return sd_bus_emit_properties_changed(adapter->bus, ADAPTER, ADAPTER_IF, "Discovering",
					      NULL);
}

static int on_start(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	(void)error;
	return set_discovering(userdata, m, 1);
}

static int on_stop(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	(void)error;
	return set_discovering(userdata, m, 0);
}

static int get_text(sd_bus *bus, const char *path, const char *interface, const char *property,
		    sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const char *text = "lab";

	(void)bus;
	(void)path;
	(void)interface;
	(void)userdata;
	(void)error;
	if (strcmp(property, "Address") == 0)
		text = "00:AA:01:00:00:00";
	else if (strcmp(property, "AddressType") == 0)
		text = "public";
	else if (strcmp(property, "PowerState") == 0)
		text = "on";
	return sd_bus_message_append(reply, "s", text);
}

static int get_bool(sd_bus *bus, const char *path, const char *interface, const char *property,
		    sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	struct adapter *adapter = userdata;

	(void)bus;
	(void)path;
	(void)interface;
	(void)error;
	return sd_bus_message_append(reply, "b",
				     strcmp(property, "Powered") == 0 ? 1 : adapter->discovering);
}

static const sd_bus_vtable vtable[] = {
	SD_BUS_VTABLE_START(SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("SetDiscoveryFilter", "a{sv}", "", on_set_filter, 0),
	SD_BUS_METHOD("StartDiscovery", "", "", on_start, 0),
	SD_BUS_METHOD("StopDiscovery", "", "", on_stop, 0),
	SD_BUS_PROPERTY("Address", "s", get_text, 0, 0),
	SD_BUS_PROPERTY("AddressType", "s", get_text, 0, 0),
	SD_BUS_PROPERTY("Name", "s", get_text, 0, 0),
	SD_BUS_PROPERTY("Powered", "b", get_bool, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("PowerState", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("Discovering", "b", get_bool, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_VTABLE_END,
};

int adapter_start(struct adapter *adapter, const char *address)
{
	TRY(sd_bus_new(&adapter->bus));
	TRY(sd_bus_set_address(adapter->bus, address));
	TRY(sd_bus_set_bus_client(adapter->bus, 1));
	TRY(sd_bus_negotiate_fds(adapter->bus, 1));
	TRY(sd_bus_start(adapter->bus));
	TRY(sd_bus_add_object_manager(adapter->bus, NULL, "/"));
	return sd_bus_add_object_vtable(adapter->bus, NULL, ADAPTER, ADAPTER_IF, vtable, adapter);
}

int adapter_process(struct adapter *adapter)
{
	int r;

	while ((r = sd_bus_process(adapter->bus, NULL)) > 0)
		;
	return r;
}

int adapter_append_service_data(sd_bus_message *m, const uint8_t *data, size_t len)
{
	TRY(sd_bus_message_open_container(m, 'a', "{sv}"));
	TRY(sd_bus_message_open_container(m, 'e', "sv"));
	TRY(sd_bus_message_append(m, "s", FD0D));
	TRY(sd_bus_message_open_container(m, 'v', "ay"));
	TRY(sd_bus_message_append_array(m, 'y', data, len));
	for (int i = 0; i < 3; i++)
		TRY(sd_bus_message_close_container(m));
	return 0;
}
