# shellcheck shell=dash
# SPDX-License-Identifier: Apache-2.0
# Turns /etc/config/blecon-hotspot into a configuration file for blecon-hotspotd. Read by the init
# script, for procd's shell: needs config_load and its callbacks.

HOTSPOT_OPTIONS=/usr/share/blecon-hotspot/options
HOTSPOT_VALUE_MAX=4096 # bytes; nothing of use is longer

hotspot_log() {
	logger -s -t blecon-hotspot -p "daemon.$1" "$2"
}

hotspot_refuse() {
	hotspot_log err "/etc/config/blecon-hotspot: $1"
	hotspot_refused=1
}

# What a value looks like in the log: on one line, and not all of a long one.
hotspot_show() {
	printf '%.60s' "$1" | LC_ALL=C tr '\000-\037\177' '?'
}

# A string as libconfig reads it.
hotspot_quote() {
	printf '%s\n' "$1" | LC_ALL=C awk '
		BEGIN {
			for (i = 1; i < 32; i++)
				escape[sprintf("%c", i)] = sprintf("\\x%02x", i)
			escape[sprintf("%c", 127)] = "\\x7f"
			escape["\\"] = "\\\\"
			escape["\""] = "\\\""
			printf "\""
		}
		{
			if (NR > 1)
				printf "\\x0a"
			n = length($0)
			for (i = 1; i <= n; i++) {
				c = substr($0, i, 1)
				printf "%s", (c in escape ? escape[c] : c)
			}
		}
		END { printf "\"" }'
}

# Without what libconfig may take for octal.
hotspot_int() {
	local digits=${1#-} sign=
	[ "$digits" = "$1" ] || sign=-
	case $digits in
	'' | *[!0-9]* | ??????????????????*) return 1 ;;
	esac
	while :; do
		case $digits in
		0?*) digits=${digits#0} ;;
		*) break ;;
		esac
	done
	printf '%s%s' "$sign" "$digits"
}

hotspot_number() {
	local whole=${1%%.*} fraction=
	[ "$whole" = "$1" ] || fraction=${1#*.}
	case $fraction in
	*[!0-9]* | ????????????????????*) return 1 ;;
	esac
	[ "$whole" = "$1" ] || [ -n "$fraction" ] || return 1
	case $whole in
	-0) printf -- -0 ;;
	*) hotspot_int "$whole" || return 1 ;;
	esac
	[ -z "$fraction" ] || printf '.%s' "$fraction"
}

hotspot_bool() {
	case $1 in
	1 | on | true | yes | enabled) printf true ;;
	0 | off | false | no | disabled) printf false ;;
	*) return 1 ;;
	esac
}

hotspot_end_list() {
	[ -z "$hotspot_list" ] || echo " ];"
	hotspot_list=
}

hotspot_end_section() {
	hotspot_end_list
	case $hotspot_section in
	'' | main) ;;
	*) echo "};" ;;
	esac
	hotspot_section=
}

# Sets hotspot_kind, or says why not.
hotspot_find() {
	local name="$hotspot_section.$1" option kind
	hotspot_kind=
	[ -n "$hotspot_section" ] || return 1
	while read -r option kind; do
		[ "$option" = "$name" ] || continue
		hotspot_kind=$kind
		return 0
	done <"$HOTSPOT_OPTIONS"
	hotspot_refuse "$name: unknown option; blecon-hotspot.conf(5) has them all"
	return 1
}

hotspot_fits() {
	[ "${#2}" -le "$HOTSPOT_VALUE_MAX" ] && return
	hotspot_refuse "$hotspot_section.$1: longer than $HOTSPOT_VALUE_MAX bytes"
	return 1
}

hotspot_on_section() {
	hotspot_end_section
	case $1 in
	'') return ;; # the end of the file
	main) ;;
	*)
		if ! grep -q "^$1\\." "$HOTSPOT_OPTIONS"; then
			hotspot_refuse "config $1: unknown section"
			return
		fi
		;;
	esac
	case " $hotspot_seen " in
	*" $1 "*)
		hotspot_refuse "config $1: there is more than one"
		return
		;;
	esac
	hotspot_seen="$hotspot_seen $1"
	hotspot_section=$1
	[ "$1" = main ] || echo "$1: {"
}

hotspot_on_option() {
	local expected value
	hotspot_end_list
	case $hotspot_section.$1 in
	main.enabled | main.jail) return ;; # the init script's own
	esac
	hotspot_find "$1" || return 0
	[ -n "$2" ] || return 0
	hotspot_fits "$1" "$2" || return 0
	case $hotspot_kind in
	int) value=$(hotspot_int "$2") || expected="a whole number" ;;
	number) value=$(hotspot_number "$2") || expected="a number" ;;
	bool) value=$(hotspot_bool "$2") || expected="0 or 1" ;;
	*) value=$(hotspot_quote "$2") ;;
	esac
	if [ -n "$expected" ]; then
		hotspot_refuse "$hotspot_section.$1: expected $expected, not '$(hotspot_show "$2")'"
		return 0
	fi
	printf '%s = %s;\n' "$1" "$value"
}

hotspot_on_item() {
	hotspot_find "$1" || return 0
	[ -n "$2" ] || return 0
	hotspot_fits "$1" "$2" || return 0
	case $hotspot_kind in
	string | list) ;;
	*)
		hotspot_refuse "$hotspot_section.$1: expected an option, not a list"
		return 0
		;;
	esac
	if [ "$hotspot_list" = "$1" ]; then
		printf ', '
	else
		hotspot_end_list
		printf '%s = [ ' "$1"
		hotspot_list=$1
	fi
	hotspot_quote "$2"
}

# What differs on OpenWrt from the defaults of blecon-hotspotd.
hotspot_defaults() {
	local value
	config_get value "$hotspot_main" state_dir
	[ -n "$value" ] || echo 'state_dir = "/etc/blecon-hotspot";'
	config_get value "$hotspot_main" status_socket
	[ -n "$value" ] || echo 'status_socket = "/var/run/blecon-hotspot/status.sock";'
}

# The directory is given to the daemon, so it must be nobody else's.
hotspot_check_socket() {
	local socket
	config_get socket "$hotspot_main" status_socket
	case $socket in
	'' | /var/run/?*/?* | /run/?*/?* | /tmp/?*/?*) ;;
	*) hotspot_refuse "main.status_socket: expected a directory of its own below /var/run or /tmp" ;;
	esac
}

# Writes the file. Fails, with the reason in the log, where an option is not what it has to be.
hotspot_write() {
	local reason
	hotspot_refused='' hotspot_section='' hotspot_seen='' hotspot_list='' hotspot_main=main
	# config_load leaves out what it cannot read, without a word.
	reason=$(uci show blecon-hotspot 2>&1 >/dev/null) || hotspot_refuse "${reason#uci: }"
	hotspot_read >"$1"
	hotspot_check_socket
	[ -z "$hotspot_refused" ]
}

# shellcheck disable=SC2317 # config_load calls them
hotspot_read() {
	config_cb() {
		[ "$1" != main ] || hotspot_main=$2
		hotspot_on_section "$1"
	}
	option_cb() { hotspot_on_option "$1" "$2"; }
	list_cb() { hotspot_on_item "$1" "$2"; }
	config_load blecon-hotspot
	hotspot_end_section
	hotspot_defaults
	reset_cb
}
