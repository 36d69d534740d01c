/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/fault.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void knows_the_errors(void **state)
{
	(void)state;
	assert_int_equal(fault_of_error("org.bluez.Error.NotReady"), BLE_FAULT_NOT_READY);
	assert_int_equal(fault_of_error("org.bluez.Error.InProgress"), BLE_FAULT_IN_PROGRESS);
	assert_int_equal(fault_of_error("org.bluez.Error.NotAuthorized"), BLE_FAULT_DENIED);
	assert_int_equal(fault_of_error("org.freedesktop.DBus.Error.AccessDenied"),
			 BLE_FAULT_DENIED);
	assert_int_equal(fault_of_error("org.freedesktop.DBus.Error.NoReply"), BLE_FAULT_NO_ANSWER);
}

static void all_others_are_failures(void **state)
{
	(void)state;
	assert_int_equal(fault_of_error("org.bluez.Error.Failed"), BLE_FAULT_FAILED);
	assert_int_equal(fault_of_error("org.bluez.Error.NotReadyYet"), BLE_FAULT_FAILED);
	assert_int_equal(fault_of_error("NotReady"), BLE_FAULT_FAILED);
	assert_int_equal(fault_of_error(""), BLE_FAULT_FAILED);
}

static void knows_why_there_is_no_bus(void **state)
{
	(void)state;
	assert_int_equal(fault_of_bus(-ENOENT, false), BLE_FAULT_ABSENT);
	assert_int_equal(fault_of_bus(-ECONNREFUSED, false), BLE_FAULT_ABSENT);
	assert_int_equal(fault_of_bus(-EACCES, false), BLE_FAULT_DENIED);
	assert_int_equal(fault_of_bus(-EPERM, false), BLE_FAULT_DENIED);
	assert_int_equal(fault_of_bus(-ETIMEDOUT, false), BLE_FAULT_FAILED);
}

static void a_connection_that_was_closed(void **state)
{
	(void)state;
	assert_int_equal(fault_of_bus(-ECONNRESET, false), BLE_FAULT_DENIED);
	assert_int_equal(fault_of_bus(-ECONNRESET, true), BLE_FAULT_FAILED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_the_errors),
		cmocka_unit_test(all_others_are_failures),
		cmocka_unit_test(knows_why_there_is_no_bus),
		cmocka_unit_test(a_connection_that_was_closed),
	};

	return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
