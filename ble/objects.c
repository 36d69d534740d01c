/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/objects.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "agent/util.h"

#define ROOT		  "/org/bluez/hci"
#define ADAPTER_INDEX_MAX 65535 /* the kernel's index has 16 bits */
#define DEVICE_NAME_LEN	  21 /* "dev_AA_BB_CC_DD_EE_FF" */
#define MODALIAS	  "usb:v1D6Bp0246d" /* and the version, four hex digits */

bool object_key_equal(const struct object_key *a, const struct object_key *b)
{
	return a->adapter == b->adapter && memcmp(a->address, b->address, 6) == 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* "dev_AA_BB_CC_DD_EE_FF", and then the end or a slash. */
static bool parse_device(const char *name, uint8_t ret[6])
{
	if (strncmp(name, "dev", 3) != 0 || strnlen(name, DEVICE_NAME_LEN) < DEVICE_NAME_LEN)
		return false;
	for (int i = 0; i < 6; i++) {
		const char *p = name + 3 + 3 * i;
		int high = hex_digit(p[1]), low = hex_digit(p[2]);

		if (p[0] != '_' || high < 0 || low < 0)
			return false;
		ret[i] = (uint8_t)(high << 4 | low);
	}
	return name[DEVICE_NAME_LEN] == '\0' || name[DEVICE_NAME_LEN] == '/';
}

enum object_kind object_parse(const char *path, struct object_key *ret_key)
{
	const char *p = path + strlen(ROOT);
	unsigned index = 0;

	if (strncmp(path, ROOT, strlen(ROOT)) != 0 || *p < '0' || *p > '9')
		return OBJECT_OTHER;
	for (; *p >= '0' && *p <= '9'; p++) {
		index = index * 10 + (unsigned)(*p - '0');
		if (index > ADAPTER_INDEX_MAX)
			return OBJECT_OTHER;
	}
	ret_key->adapter = index;
	if (*p == '\0')
		return OBJECT_ADAPTER;
	if (*p != '/' || !parse_device(p + 1, ret_key->address))
		return OBJECT_OTHER;
	return p[1 + DEVICE_NAME_LEN] == '\0' ? OBJECT_DEVICE : OBJECT_BELOW_DEVICE;
}

void object_adapter_path(unsigned adapter, char ret[OBJECT_PATH_MAX])
{
	snprintf(ret, OBJECT_PATH_MAX, ROOT "%u", adapter);
}

void object_device_path(const struct object_key *key, char ret[OBJECT_PATH_MAX])
{
	const uint8_t *a = key->address;

	snprintf(ret, OBJECT_PATH_MAX, ROOT "%u/dev_%02X_%02X_%02X_%02X_%02X_%02X", key->adapter,
		 a[0], a[1], a[2], a[3], a[4], a[5]);
}

static const struct {
	const char *uuid;
	enum object_attribute attribute;
} attributes[] = {
	{"ec4f0000-1537-443e-b05a-713051212f1c", OBJECT_ATTRIBUTE_CHANNEL_0},
	{"ec4f0001-1537-443e-b05a-713051212f1c", OBJECT_ATTRIBUTE_CHANNEL_1},
	{"00002902-0000-1000-8000-00805f9b34fb", OBJECT_ATTRIBUTE_CCC},
};

/* Steps into the next entry of an a{sv}, up to its value: 1, 0 at the end, or -errno. */
static int next_entry(sd_bus_message *m, const char **ret_key)
{
	int r = sd_bus_message_enter_container(m, SD_BUS_TYPE_DICT_ENTRY, "sv");

	if (r <= 0)
		return r;
	r = sd_bus_message_read_basic(m, SD_BUS_TYPE_STRING, ret_key);
	return r < 0 ? r : 1;
}

/* Calls on_entry for each entry of the a{sv}; it reads or skips the value. */
static int read_dict(sd_bus_message *m,
		     int (*on_entry)(sd_bus_message *m, const char *key, void *ret), void *ret)
{
	const char *key;
	int r;

	r = sd_bus_message_enter_container(m, SD_BUS_TYPE_ARRAY, "{sv}");
	if (r < 0)
		return r;
	while ((r = next_entry(m, &key)) > 0) {
		r = on_entry(m, key, ret);
		if (r < 0)
			return r;
		r = sd_bus_message_exit_container(m);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_bool(sd_bus_message *m, enum told *ret)
{
	int value;
	int r = sd_bus_message_read(m, "v", "b", &value);

	if (r >= 0)
		*ret = value ? TOLD_TRUE : TOLD_FALSE;
	return r;
}

static int read_address_type(sd_bus_message *m, enum told *ret_random)
{
	const char *text;
	int r = sd_bus_message_read(m, "v", "s", &text);

	if (r >= 0)
		*ret_random = strcmp(text, "random") == 0 ? TOLD_TRUE : TOLD_FALSE;
	return r;
}

void object_version(const char *modalias, char ret[BLE_VERSION_TEXT])
{
	const char *p = modalias + strlen(MODALIAS);
	int digits[4];

	ret[0] = '\0';
	if (strncmp(modalias, MODALIAS, strlen(MODALIAS)) != 0 || strlen(p) != ARRAY_SIZE(digits))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(digits); i++) {
		digits[i] = hex_digit(p[i]);
		if (digits[i] < 0)
			return;
	}
	snprintf(ret, BLE_VERSION_TEXT, "%u.%u", (unsigned)(digits[0] << 4 | digits[1]) & 0xff,
		 (unsigned)(digits[2] << 4 | digits[3]) & 0xff);
}

/* Whether an "as" has this text, in whatever case. */
static int read_has(sd_bus_message *m, const char *wanted, bool *ret)
{
	bool found = false;
	const char *text;
	int r = sd_bus_message_enter_container(m, SD_BUS_TYPE_VARIANT, "as");

	if (r < 0)
		return r;
	r = sd_bus_message_enter_container(m, SD_BUS_TYPE_ARRAY, "s");
	if (r < 0)
		return r;
	while ((r = sd_bus_message_read_basic(m, SD_BUS_TYPE_STRING, &text)) > 0)
		found = found || strcasecmp(text, wanted) == 0;
	if (r < 0)
		return r;
	r = sd_bus_message_exit_container(m);
	if (r >= 0)
		r = sd_bus_message_exit_container(m);
	if (r >= 0)
		*ret = found;
	return r;
}

static int read_roles(sd_bus_message *m, enum told *ret_le)
{
	bool central = false;
	int r = read_has(m, "central", &central);

	if (r >= 0)
		*ret_le = central ? TOLD_TRUE : TOLD_FALSE;
	return r;
}

static int on_adapter_prop(sd_bus_message *m, const char *key, void *ret)
{
	struct adapter_props *props = ret;
	const char *text;
	int r;

	if (strcmp(key, "Powered") == 0)
		return read_bool(m, &props->powered);
	if (strcmp(key, "Discovering") == 0)
		return read_bool(m, &props->discovering);
	if (strcmp(key, "AddressType") == 0)
		return read_address_type(m, &props->random);
	if (strcmp(key, "Roles") == 0)
		return read_roles(m, &props->le);
	if (strcmp(key, "Address") != 0 && strcmp(key, "PowerState") != 0 &&
	    strcmp(key, "Modalias") != 0)
		return sd_bus_message_skip(m, "v");
	r = sd_bus_message_read(m, "v", "s", &text);
	if (r < 0)
		return r;
	if (strcmp(key, "Address") == 0)
		snprintf(props->address, sizeof(props->address), "%s", text);
	else if (strcmp(key, "Modalias") == 0)
		object_version(text, props->version);
	else
		props->blocked = strcmp(text, "off-blocked") == 0 ? TOLD_TRUE : TOLD_FALSE;
	return 0;
}

int adapter_props_read(sd_bus_message *m, struct adapter_props *ret)
{
	*ret = (struct adapter_props){
		.powered = TOLD_NOT,
		.discovering = TOLD_NOT,
		.blocked = TOLD_NOT,
		.random = TOLD_NOT,
		.le = TOLD_NOT,
	};
	return read_dict(m, on_adapter_prop, ret);
}

static int on_service_data(sd_bus_message *m, const char *key, void *ret)
{
	struct device_props *props = ret;
	const void *data;
	int r;

	if (strcasecmp(key, ADVERT_SERVICE_UUID) != 0)
		return sd_bus_message_skip(m, "v");
	r = sd_bus_message_enter_container(m, SD_BUS_TYPE_VARIANT, "ay");
	if (r < 0)
		return r;
	r = sd_bus_message_read_array(m, SD_BUS_TYPE_BYTE, &data, &props->data_len);
	if (r < 0)
		return r;
	/* An empty array may come as NULL, and was told nevertheless. */
	props->data = data && props->data_len > 0 ? data : (const uint8_t *)"";
	return sd_bus_message_exit_container(m);
}

static int read_service_data(sd_bus_message *m, struct device_props *props)
{
	int r = sd_bus_message_enter_container(m, SD_BUS_TYPE_VARIANT, "a{sv}");

	if (r < 0)
		return r;
	props->service_data = true;
	r = read_dict(m, on_service_data, props);
	return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_rssi(sd_bus_message *m, struct device_props *props)
{
	int16_t rssi;
	int r = sd_bus_message_read(m, "v", "n", &rssi);

	if (r < 0)
		return r;
	props->rssi_told = true;
	/* BlueZ has 0 for "absent"; a receiver cannot measure more than 20 dBm. */
	props->rssi_dbm = rssi == 0 || rssi < INT8_MIN || rssi > 20 ? BLE_RSSI_NONE : (int8_t)rssi;
	return 0;
}

static int on_device_prop(sd_bus_message *m, const char *key, void *ret)
{
	struct device_props *props = ret;

	if (strcmp(key, "RSSI") == 0)
		return read_rssi(m, props);
	if (strcmp(key, "ServiceData") == 0)
		return read_service_data(m, props);
	if (strcmp(key, "UUIDs") == 0)
		return read_has(m, ADVERT_SERVICE_UUID, &props->lists_service);
	if (strcmp(key, "AddressType") == 0)
		return read_address_type(m, &props->random);
	if (strcmp(key, "Connected") == 0)
		return read_bool(m, &props->connected);
	if (strcmp(key, "ServicesResolved") == 0)
		return read_bool(m, &props->resolved);
	return sd_bus_message_skip(m, "v");
}

int device_props_read(sd_bus_message *m, struct device_props *ret)
{
	*ret = (struct device_props){
		.random = TOLD_NOT,
		.connected = TOLD_NOT,
		.resolved = TOLD_NOT,
	};
	return read_dict(m, on_device_prop, ret);
}

int device_props_read_invalidated(sd_bus_message *m, struct device_props *props)
{
	const char *name;
	int r = sd_bus_message_enter_container(m, SD_BUS_TYPE_ARRAY, "s");

	if (r < 0)
		return r;
	while ((r = sd_bus_message_read_basic(m, SD_BUS_TYPE_STRING, &name)) > 0) {
		if (strcmp(name, "RSSI") == 0)
			props->rssi_gone = true;
	}
	return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int on_attribute_prop(sd_bus_message *m, const char *key, void *ret)
{
	const char *uuid;
	int r;

	if (strcmp(key, "UUID") != 0)
		return sd_bus_message_skip(m, "v");
	r = sd_bus_message_read(m, "v", "s", &uuid);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(attributes); i++) {
		if (strcasecmp(uuid, attributes[i].uuid) == 0)
			*(enum object_attribute *)ret = attributes[i].attribute;
	}
	return r;
}

int attribute_props_read(sd_bus_message *m, enum object_attribute *ret)
{
	*ret = OBJECT_ATTRIBUTE_OTHER;
	return read_dict(m, on_attribute_prop, ret);
}
