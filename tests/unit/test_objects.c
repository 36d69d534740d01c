/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"

static void expect_version(const char *modalias, const char *expected)
{
	char version[BLE_VERSION_TEXT] = "before";

	object_version(modalias, version);
	assert_string_equal(version, expected);
}

static void knows_the_version(void **state)
{
	(void)state;
	expect_version("usb:v1D6Bp0246d0542", "5.66");
	expect_version("usb:v1D6Bp0246d0556", "5.86");
	expect_version("usb:v1D6Bp0246d0509", "5.9");
	expect_version("usb:v1D6Bp0246dFFFF", "255.255");
}

/* main.conf can name any vendor and product, and then the rest is no version of bluetoothd's. */
static void a_device_id_of_its_own(void **state)
{
	static const char *const others[] = {
		"",
		"usb",
		"usb:v1D6Bp0246d",
		"usb:v1D6Bp0246d054",
		"usb:v1D6Bp0246d05422",
		"usb:v1D6Bp0246d05x2",
		"usb:v1D6Bp0247d0542",
		"usb:v05ACp0246d0542",
		"bluetooth:v1D6Bp0246d0542",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		expect_version(others[i], "");
}

static void knows_the_paths(void **state)
{
	static const uint8_t address[6] = {0xC0, 0x1A, 0x2B, 0x3C, 0x4D, 0x5E};
	struct object_key key;

	(void)state;
	assert_int_equal(object_parse("/org/bluez/hci65535", &key), OBJECT_ADAPTER);
	assert_int_equal(key.adapter, 65535);
	assert_int_equal(object_parse("/org/bluez/hci3/dev_C0_1A_2B_3C_4D_5E", &key),
			 OBJECT_DEVICE);
	assert_int_equal(key.adapter, 3);
	assert_memory_equal(key.address, address, sizeof(address));
	assert_int_equal(object_parse("/org/bluez/hci3/dev_C0_1A_2B_3C_4D_5E/service0010", &key),
			 OBJECT_BELOW_DEVICE);
	assert_int_equal(object_parse("/org/bluez/hci65536", &key), OBJECT_OTHER);
	assert_int_equal(object_parse("/org/bluez/hci3/dev_C0_1A_2B_3C_4D_5", &key), OBJECT_OTHER);
	assert_int_equal(object_parse("/org/bluez", &key), OBJECT_OTHER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_the_version),
		cmocka_unit_test(a_device_id_of_its_own),
		cmocka_unit_test(knows_the_paths),
	};

	return cmocka_run_group_tests_name("objects", tests, NULL, NULL);
}
