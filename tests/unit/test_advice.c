/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/advice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"

#define SILENCE_MS 90000
#define START_MS   UINT64_C(34560000000)

/* words: of the advice, or "" for none at all. */
static void expect(const struct ble_status *s, const char *words)
{
	char advice[ADVICE_MAX], longer[2 * ADVICE_MAX];

	advice_bluetooth(s, advice, sizeof(advice));
	if (*words ? !strstr(advice, words) : *advice != '\0')
		fail_msg("state %d, fault %d: \"%s\" is not in \"%s\"", (int)s->state,
			 (int)s->fault, words, advice);
	/* It is whole, and follows a colon. */
	advice_bluetooth(s, longer, sizeof(longer));
	assert_string_equal(advice, longer);
	assert_null(strstr(advice, ". "));
	assert_null(strchr(advice, ';'));
}

static struct ble_adapter_status scanning(void)
{
	return (struct ble_adapter_status){
		.used = true,
		.state = BLE_ADAPTER_SCANNING,
		.since_ms = START_MS,
		.powered = true,
		.discovering = true,
		.supervisor.silence_ms = SILENCE_MS,
	};
}

static struct ble_adapter_status in_state(enum ble_adapter_state state)
{
	struct ble_adapter_status a = scanning();

	a.state = state;
	a.powered = state == BLE_ADAPTER_STARTING;
	return a;
}

static void without_adapters(void **state)
{
	static const struct {
		enum ble_state state;
		enum ble_fault fault;
		const char *words;
	} cases[] = {
		{BLE_STATE_NO_BUS, BLE_FAULT_STARTING, ""},
		{BLE_STATE_NO_BUS, BLE_FAULT_ABSENT, "start dbus-daemon"},
		{BLE_STATE_NO_BUS, BLE_FAULT_ABSENT, "DBUS_SYSTEM_BUS_ADDRESS"},
		{BLE_STATE_NO_BUS, BLE_FAULT_FAILED, "start dbus-daemon"},
		{BLE_STATE_NO_BUS, BLE_FAULT_DENIED, "mode"},
		{BLE_STATE_NO_BLUETOOTHD, BLE_FAULT_STARTING, ""},
		{BLE_STATE_NO_BLUETOOTHD, BLE_FAULT_ABSENT, "systemctl start bluetooth"},
		{BLE_STATE_NO_BLUETOOTHD, BLE_FAULT_ABSENT, "service bluetoothd start"},
		{BLE_STATE_NO_BLUETOOTHD, BLE_FAULT_NO_ANSWER, "systemctl restart bluetooth"},
		{BLE_STATE_NO_ACCESS, BLE_FAULT_DENIED, "D-Bus policy for org.bluez"},
		{BLE_STATE_NO_ACCESS, BLE_FAULT_DENIED, "group bluetooth"},
		{BLE_STATE_NO_ADAPTER, BLE_FAULT_STARTING, ""},
		{BLE_STATE_NO_ADAPTER, BLE_FAULT_ABSENT, "plug one in"},
		{BLE_STATE_NO_ADAPTER, BLE_FAULT_ABSENT, "dmesg"},
		{BLE_STATE_NO_ADAPTER, BLE_FAULT_MISSING, "bluetooth.adapters"},
		{BLE_STATE_NO_ADAPTER, BLE_FAULT_MISSING, "dmesg"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct ble_status s = {.state = cases[i].state, .fault = cases[i].fault};

		expect(&s, cases[i].words);
	}
}

static void an_adapter_that_does_not_scan(void **state)
{
	struct ble_status s = {.state = BLE_STATE_NOT_SCANNING, .n_adapters = 1};

	(void)state;
	s.adapters[0] = in_state(BLE_ADAPTER_BLOCKED);
	expect(&s, "rfkill unblock bluetooth");
	expect(&s, "echo 0 | tee /sys/class/bluetooth/");
	s.adapters[0] = in_state(BLE_ADAPTER_OFF);
	expect(&s, "");
	s.adapters[0] = in_state(BLE_ADAPTER_STARTING);
	expect(&s, "");
}

static void a_failure(void **state)
{
	static const struct {
		enum ble_fault fault;
		bool powered;
		const char *words;
	} cases[] = {
		{BLE_FAULT_FAILED, false, "USB power"},
		{BLE_FAULT_DENIED, false, "D-Bus policy"},
		{BLE_FAULT_NO_ANSWER, false, "systemctl restart bluetooth"},
		{BLE_FAULT_FAILED, true, "restart bluetoothd"},
		{BLE_FAULT_DENIED, true, "D-Bus policy"},
		{BLE_FAULT_NOT_READY, true, "bluetoothctl power on"},
		{BLE_FAULT_IN_PROGRESS, true, "end other programs that scan"},
		{BLE_FAULT_IN_PROGRESS, true, "ControllerMode"},
		{BLE_FAULT_NOT_PERMITTED, true, "ControllerMode"},
		{BLE_FAULT_NOT_SUPPORTED, true, "Bluetooth LE"},
		{BLE_FAULT_NO_ANSWER, true, "systemctl restart bluetooth"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct ble_status s = {.state = BLE_STATE_NOT_SCANNING, .n_adapters = 1};

		s.adapters[0] = in_state(BLE_ADAPTER_FAILED);
		s.adapters[0].fault = cases[i].fault;
		s.adapters[0].powered = cases[i].powered;
		expect(&s, cases[i].words);
	}
}

static void a_deaf_radio(void **state)
{
	struct ble_status s = {.state = BLE_STATE_SCANNING, .n_adapters = 1};

	(void)state;
	s.adapters[0] = scanning();
	expect(&s, "");
	s.adapters[0].supervisor.step = BLE_SUPERVISOR_CYCLED;
	expect(&s, "");
	s.adapters[0].supervisor.reported = true;
	expect(&s, "antenna");
	/* What was reported stands while it is tried again. */
	s.state = BLE_STATE_NOT_SCANNING;
	s.adapters[0].state = BLE_ADAPTER_STARTING;
	expect(&s, "antenna");
}

/* Not before they were heard for as long as it takes the supervisor to do something. */
static void only_others_are_heard(void **state)
{
	struct ble_status s = {.state = BLE_STATE_SCANNING, .n_adapters = 1};
	struct ble_adapter_status *a = &s.adapters[0];

	(void)state;
	*a = scanning();
	a->others = 1;
	a->last_heard_ms = START_MS + SILENCE_MS - 1;
	expect(&s, "");
	a->last_heard_ms++;
	expect(&s, "none of Blecon's");
	a->last_advert_ms = START_MS + 1;
	expect(&s, "");
	a->last_heard_ms++;
	expect(&s, "none of Blecon's");
	a->supervisor.silence_ms = 0;
	expect(&s, "");
}

static void the_worst_comes_first(void **state)
{
	struct ble_status s = {.state = BLE_STATE_SCANNING, .n_adapters = 3};

	(void)state;
	s.adapters[0] = scanning();
	s.adapters[0].supervisor.reported = true;
	s.adapters[1] = in_state(BLE_ADAPTER_BLOCKED);
	s.adapters[1].used = false;
	s.adapters[2] = scanning();
	expect(&s, "antenna");
	s.fault = BLE_FAULT_MISSING;
	expect(&s, "bluetooth.adapters");
	s.adapters[1].used = true;
	expect(&s, "rfkill");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_adapters),
		cmocka_unit_test(an_adapter_that_does_not_scan),
		cmocka_unit_test(a_failure),
		cmocka_unit_test(a_deaf_radio),
		cmocka_unit_test(only_others_are_heard),
		cmocka_unit_test(the_worst_comes_first),
	};

	return cmocka_run_group_tests_name("advice", tests, NULL, NULL);
}
