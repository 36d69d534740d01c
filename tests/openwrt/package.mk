# SPDX-License-Identifier: Apache-2.0
# Stands in for the buildroot's rules.mk, package.mk and meson.mk, as far as a recipe's definitions
# go: "show" prints them, "install" does what the recipe installs, from PKG_INSTALL_DIR to TO.
ifndef INSTALL_DIR
INSTALL_DIR := install -d -m0755
INSTALL_BIN := install -m0755
INSTALL_DATA := install -m0644
INSTALL_CONF := install -m0600
CP := cp -fpR
LN := ln -sf
SED := sed -i -e

define shown
$(1)=$(strip $($(1)))

endef

define BuildPackage
$(eval $(Package/$(1)))
show:
	@: $(foreach v,PKG_NAME PKG_VERSION PKG_RELEASE PKG_SOURCE_PROTO PKG_SOURCE_URL PKG_HASH \
		PKG_MIRROR_HASH PKG_LICENSE PKG_LICENSE_FILES PKG_BUILD_FLAGS DEPENDS USERID \
		MAKE_FLAGS MESON_ARGS TITLE SECTION CATEGORY URL,$$(info $$(call shown,$(v))))
	@: $$(foreach f,$$(Package/$(1)/conffiles),$$(info conffile=$$(f)))
install:
	$$(call Package/$(1)/install,$$(TO))
endef
endif
