# SPDX-License-Identifier: Apache-2.0
#
#   make            the daemon and its control program, in build/: one executable with two names
#   make demo       the whole thing running here, with a simulated radio and cloud
#   make check      unit tests, simulations, integration tests; make test: also real BlueZ in QEMU
#   make musl-test     the tests with musl, and libwebsockets on mbedTLS, as on OpenWrt
#   make openwrt-test  OpenWrt's package: init script, settings, recipes
#   make luci-test     its pages in a browser
#   make deb           the Debian package; make big-endian-test: the unit tests for s390x, emulated
#   make package-test  that package in a booted Debian; make trixie-test: all this on Debian 13
#   make lint fuzz bench install clean
#
# SANITIZE=1 builds with ASan and UBSan in a directory of its own, CC=clang too; SMALL=1, with gcc,
# what is short of flash, in another. V=1 shows commands.

VERSION := 0.1.0

CC ?= cc
PKG_CONFIG ?= pkg-config
PYTHON := /usr/bin/python3
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc

KIND := $(notdir $(firstword $(CC)))$(if $(SANITIZE),-sanitize)$(if $(SMALL),-small)
BUILD := build/$(KIND)

SDBUS := $(shell $(PKG_CONFIG) --exists libsystemd && echo libsystemd || echo basu)
PACKAGES := libwebsockets libconfig libcbor json-c $(SDBUS)

CFLAGS ?= -O2 -g
ifdef SMALL
# Over what CFLAGS says: the whole program seen at once, no tables for unwinding (nothing unwinds
# here, and a debugger has those of -g), guards only for the stacks with buffers of bytes, which is
# OpenWrt's own choice, code and data in one segment's pages, relocations packed.
SMALLER := -Oz -flto=auto -fno-asynchronous-unwind-tables -fno-unwind-tables -fno-plt \
	-fno-caller-saves -flto-partition=one -fstack-protector
SMALLER_LINK := $(SMALLER) -Wl,-z,noseparate-code -Wl,-z,pack-relative-relocs
# One table of symbols instead of two; MIPS has but the other.
SMALLER_LINK += $(if $(findstring mips,$(shell $(CC) -dumpmachine)),,-Wl,--hash-style=gnu)
endif
WARNINGS := -Wall -Wextra -Wshadow -Wformat=2 -Wmissing-prototypes $(if $(WERROR),-Werror)
ifdef SANITIZE
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
else
# Distributions name a level of their own.
HARDENING := $(if $(findstring _FORTIFY_SOURCE,$(CPPFLAGS) $(CFLAGS)),,-D_FORTIFY_SOURCE=2)
endif
HARDENING += -fstack-protector-strong -fPIE
# With 64 bits a 32-bit hub too can read what has a large inode or offset.
ALL_CFLAGS := -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DVERSION='"$(VERSION)"' \
	$(if $(filter basu,$(SDBUS)),-DBLE_BASU) -I. -MMD -MP \
	$(shell $(PKG_CONFIG) --cflags $(PACKAGES)) $(WARNINGS) $(HARDENING) $(SANITIZERS) \
	-ffunction-sections -fdata-sections $(CPPFLAGS) $(CFLAGS) $(SMALLER)
ALL_LDFLAGS := -pie -Wl,-z,relro,-z,now,--gc-sections $(SANITIZERS) $(LDFLAGS) $(SMALLER_LINK)
LIBS := $(shell $(PKG_CONFIG) --libs $(PACKAGES)) -lmbedtls -lmbedx509 -lmbedcrypto -lm
# What libwebsockets is built on, if not on mbedTLS.
LIBS += -Wl,--as-needed $(shell $(PKG_CONFIG) --silence-errors --libs libssl libcrypto)

PROGRAMS := $(BUILD)/blecon-hotspotd $(BUILD)/blecon-hotspotctl
SOURCES := $(filter-out agent/main.c,$(wildcard agent/*.c ble/*.c uplink/*.c))
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
UNIT_TESTS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/test_*.c))
UNIT_COMMON := $(patsubst %.c,$(BUILD)/%.o,\
	$(filter-out tests/unit/test_%,$(wildcard tests/unit/*.c)))
SIM_TESTS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/sim/test_*.c))
SIM_COMMON := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/sim/sim_*.c))
FUZZERS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))

C_FILES = $(wildcard agent/*.[ch] ble/*.[ch] uplink/*.[ch] tests/*/*.[ch])
SHELL_FILES = .ci/run packaging/install-deps tests/musl/build tests/vm/run tests/vm/init \
	tests/package/root tests/package/enter tests/package/vm tests/package/trixie \
	packaging/debian/build packaging/debian/chroot $(wildcard packaging/debian/*.post*) \
	tests/openwrt/rc.common $(wildcard packaging/openwrt/blecon-hotspot/files/*.init) \
	$(wildcard packaging/openwrt/blecon-hotspot/files/*.sh) \
	packaging/openwrt/luci-app-blecon-hotspot/root/usr/libexec/rpcd/blecon-hotspot

all: $(PROGRAMS) $(BUILD)/blecon-hotspot.conf.5

# V=1 shows the whole commands.
say = @$(if $(V),,echo "$1";)$(if $(V),set -x;)

# Each option's text stands in the example, how a change takes effect in the table.
MANUALS := $(wildcard agent/man/*.[178]) $(BUILD)/blecon-hotspot.conf.5

$(BUILD)/blecon-hotspot.conf.5: agent/man/options.awk agent/settings_options.c \
		configs/blecon-hotspot.conf agent/man/blecon-hotspot.conf.5.in
	@mkdir -p $(@D)
	$(call say,awk $@) awk -f $^ >$@.new && mv $@.new $@

$(BUILD)/blecon-hotspotd: $(BUILD)/agent/main.o $(OBJECTS)
	$(call say,link $@) $(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/blecon-hotspotctl: $(BUILD)/blecon-hotspotd
	@ln -sf $(<F) $@

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,$(CC) $<) $(CC) $(ALL_CFLAGS) -c -o $@ $<

$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(UNIT_COMMON) $(OBJECTS)
	$(call say,link $@) $(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) -lcmocka

unit-tests: $(UNIT_TESTS)

# The agent in virtual time: all of it but what touches the world, with the clock, the chance and the
# network of tests/sim.
SIM_REPLACED := agent/ctl% agent/loop agent/lws_log agent/status_socket \
	uplink/websocket uplink/server uplink/tls uplink/resolver uplink/diagnosis
SIM_OBJECTS := $(filter-out $(SIM_REPLACED:%=$(BUILD)/%.o),\
	$(filter $(BUILD)/agent/% $(BUILD)/uplink/% $(BUILD)/ble/advert.o,$(OBJECTS)))
SIM_WRAPPED := util_now_ms util_now_us util_random util_random_below log_write identity_sign \
	session_new session_free

$(BUILD)/tests/sim/%: $(BUILD)/tests/sim/%.o $(SIM_COMMON) $(SIM_OBJECTS) \
		$(BUILD)/tests/unit/heap.o
	$(call say,link $@) $(CC) $(ALL_LDFLAGS) $(SIM_WRAPPED:%=-Wl,--wrap=%) -o $@ $^ $(LIBS) \
		-lcmocka

sim-tests: $(SIM_TESTS)

# What the simulated radio needs on a kernel without Bluetooth, and a wrong clock: never sanitized.
$(BUILD)/%_preload.so: tests/lab/%_preload.c Makefile
	@mkdir -p $(@D)
	$(call say,$(CC) $<) $(CC) -std=gnu11 -D_GNU_SOURCE $(WARNINGS) $(CFLAGS) -shared -fPIC \
		$(LAB_LDFLAGS) -o $@ $<

lab-tools: $(BUILD)/l2cap_preload.so $(BUILD)/clock_preload.so

# The packages of tests/interop, as its lock file has them.
NODE_MODULES := tests/interop/node_modules/.package-lock.json
$(NODE_MODULES): tests/interop/package-lock.json tests/interop/.npmrc
	$(call say,npm ci) cd $(<D) && npm ci --loglevel=error
	@touch $@

node-modules: $(NODE_MODULES)

demo:
	packaging/install-deps build lab
	$(MAKE) all lab-tools
	$(PYTHON) tests/lab/demo.py --programs $(BUILD)

check:
	packaging/install-deps build lab test interop
	$(MAKE) all unit-tests sim-tests lab-tools node-modules
	$(PYTHON) tests/run.py --programs $(BUILD) unit sim lab integration interop

vm-test:
	packaging/install-deps build lab test vm
	$(MAKE) all lab-tools
	$(PYTHON) tests/run.py --programs $(BUILD) vm

test: check vm-test

# As on OpenWrt: musl, libwebsockets on mbedTLS, basu, and its flags. What is tested as a process is
# what is shipped there; the tests that link its parts do without SMALL, which sees all at once.
# What is preloaded names no C library: programs of this machine that the agent starts get it too.
MUSL := $(CURDIR)/build/musl
MUSL_MAKE := PKG_CONFIG_LIBDIR=$(MUSL)/lib/pkgconfig $(MAKE) CC=$(MUSL)/bin/cc \
	CFLAGS='-Os -g'
musl-test:
	packaging/install-deps build lab test musl
	tests/musl/build $(MUSL)
	$(MUSL_MAKE) KIND=musl-parts unit-tests sim-tests
	$(MUSL_MAKE) KIND=musl-small SMALL=1 LAB_LDFLAGS=-nodefaultlibs all lab-tools
	$(PYTHON) tests/run.py --programs build/musl-parts unit sim
	$(PYTHON) tests/run.py --programs build/musl-small musl integration

# Its scripts under BusyBox and dash, with stand-ins for procd and UCI.
openwrt-test:
	packaging/install-deps build test openwrt
	$(MAKE) all
	$(PYTHON) tests/run.py --programs $(BUILD) openwrt

# The pages for LuCI in Chromium, with a running agent behind them; their pictures are in build/luci.
luci-test:
	packaging/install-deps build lab test luci
	$(MAKE) all lab-tools
	$(PYTHON) tests/run.py --programs $(BUILD) luci

# The Debian package, in build/deb; ARCH=arm64 or armhf: cross-built in a chroot.
deb:
	packaging/install-deps $(if $(ARCH),,build) deb $(if $(ARCH),cross)
	packaging/debian/build build/deb $(ARCH)

# The unit tests on a machine with the other byte order, emulated.
big-endian-test:
	packaging/install-deps deb cross
	packaging/debian/build build/deb s390x check

lint: $(BUILD)/blecon-hotspot.conf.5
	packaging/install-deps build test lint
	clang-format --dry-run -Werror $(C_FILES)
	# It does not know the cleanup attribute; for leaks there is LeakSanitizer.
	cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,portability \
		--suppress=memleak --suppress=missingIncludeSystem -I. -D_GNU_SOURCE \
		-DVERSION='""' agent ble uplink
	shellcheck $(SHELL_FILES)
	shellcheck --shell=bash packaging/completion/*
	mandoc -T lint -W warning $(MANUALS)
	$(MAKE) WERROR=1 CC=gcc all unit-tests sim-tests lab-tools
	$(MAKE) WERROR=1 CC=clang all unit-tests sim-tests lab-tools

# Each decoder gets random input for FUZZ_SECONDS, from its corpus on.
FUZZ_SECONDS ?= 20
fuzz:
	packaging/install-deps build lint
	$(MAKE) CC=clang $(FUZZERS:%=build/fuzz/%)
	for f in $(FUZZERS); do \
		mkdir -p build/fuzz/$$f.new && \
		build/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) -timeout=5 -max_len=70000 \
			-artifact_prefix=build/fuzz/ build/fuzz/$$f.new tests/fuzz/corpus/$$f || exit 1; \
	done

build/fuzz/%: tests/fuzz/%.c $(wildcard uplink/*.[ch] ble/advert.[ch] agent/kept.[ch] agent/journal.[ch])
	@mkdir -p $(@D)
	clang -std=gnu11 -D_GNU_SOURCE -I. -g -O1 -fsanitize=fuzzer,address,undefined \
		-fno-sanitize-recover=all -o $@ $< uplink/wire.c uplink/message.c \
		uplink/endpoint.c uplink/proxy.c ble/advert.c agent/kept.c agent/journal.c agent/util.c \
		$(shell $(PKG_CONFIG) --libs libcbor)

bench:
	packaging/install-deps build lab bench
	$(MAKE) all lab-tools
	$(PYTHON) tests/bench/bench.py --programs $(BUILD)

# The Debian package, from its installation to its purge, in a booted Debian.
package-test: deb
	packaging/install-deps build lab vm package
	$(PYTHON) tests/run.py --programs $(BUILD) package

# Unit, simulated, lab and integration tests, and the package, on Debian 13.
trixie-test:
	packaging/install-deps package
	tests/package/trixie

install: all
	install -D -m 755 $(BUILD)/blecon-hotspotd $(DESTDIR)$(PREFIX)/sbin/blecon-hotspotd
	install -d $(DESTDIR)$(PREFIX)/bin
	ln -sf ../sbin/blecon-hotspotd $(DESTDIR)$(PREFIX)/bin/blecon-hotspotctl
	for page in $(MANUALS); do \
		install -D -m 644 $$page \
			$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$$(basename $$page) || exit 1; \
	done
	for program in blecon-hotspotctl blecon-hotspotd; do \
		install -D -m 644 packaging/completion/blecon-hotspotctl \
			$(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$program || exit 1; \
	done
	test -e $(DESTDIR)$(SYSCONFDIR)/blecon-hotspot.conf || \
		install -D -m 640 configs/blecon-hotspot.conf \
			$(DESTDIR)$(SYSCONFDIR)/blecon-hotspot.conf

clean:
	rm -rf build tests/interop/node_modules

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

.PHONY: all unit-tests sim-tests lab-tools node-modules demo check test vm-test musl-test \
	openwrt-test luci-test deb package-test trixie-test big-endian-test lint fuzz bench install clean
.SECONDARY:
