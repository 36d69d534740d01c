# SPDX-License-Identifier: Apache-2.0
# The options of blecon-hotspot.conf(5), out of the commented example and the table of all options:
#   awk -f options.awk settings_options.c blecon-hotspot.conf blecon-hotspot.conf.5.in
# What stands above an option, or above several, is their text.

function flush_text(    i) {
	for (i = 1; i <= n_text; i++)
		out = out text[i] "\n"
	n_text = 0
}

function literal(line) {
	gsub(/\\/, "\\e", line)
	gsub(/-/, "\\-", line)
	gsub(/"/, "\\(dq", line)
	return line
}

# A line of a comment; what is indented, and a command, stands as it is.
function add(line) {
	if (line ~ /^ / || line ~ /^openssl /) {
		if (!is_literal)
			text[++n_text] = ".Bd -literal -offset indent"
		is_literal = 1
		text[++n_text] = literal(line)
		return
	}
	end_literal()
	gsub(/--/, "\\-\\-", line)
	# Each sentence on a line of its own, as mdoc(7) wants it.
	while (match(line, /\. [A-Z]/)) {
		text[++n_text] = substr(line, 1, RSTART)
		line = substr(line, RSTART + 2)
	}
	text[++n_text] = line
}

function end_literal() {
	if (is_literal)
		text[++n_text] = ".Ed"
	is_literal = 0
}

function option(name, value) {
	if (n_text > 0 && n_items > 0)
		end_items()
	items[++n_items] = ".It Ic " (group ? group "." : "") name \
		(value == "" ? "" : " No = Li " literal(value))
	effect = effects[(group ? group "." : "") name]
	if (n_text > 0) {
		end_literal()
		for (i = 1; i <= n_text; i++)
			kept[i] = text[i]
		n_kept = n_text
		n_text = 0
	}
}

function end_items(    i) {
	for (i = 1; i <= n_items; i++)
		out = out items[i] "\n"
	for (i = 1; i <= n_kept; i++)
		out = out kept[i] "\n"
	if (n_items > 0)
		out = out "A change " effect ".\n"
	n_items = n_kept = 0
}

BEGIN {
	says["LIVE"] = "counts at once"
	says["CONNECTION"] = "makes a new connection to the cloud"
	says["REACH"] = "makes a new connection to the cloud, and is given up if there comes none"
	says["RESTART"] = "takes a restart"
}

FILENAME ~ /settings_options\.c$/ {
	for (change in says) {
		if ($0 !~ "^\t[{A-Z]+\\(.*, " change "[,)]")
			continue
		name = $0
		sub(/^\t[{A-Z]+\("?/, "", name)
		sub(/"?,.*/, "", name)
		effects[name] = says[change]
	}
	next
}

FILENAME ~ /\.5\.in$/ {
	if ($0 == "@OPTIONS@") {
		end_items()
		printf "%s", out
	} else {
		print
	}
	next
}

{ sub(/^\t/, "") }

/^[a-z]+: \{/ {
	end_items()
	group = substr($1, 1, length($1) - 1)
	next
}
/^\};/ { end_items(); group = ""; next }
/^$/ { end_items(); n_text = is_literal = 0; next }
/^# [a-z_]+ = .*;$/ { option($2, ""); next }
/^#/ { sub(/^# ?/, ""); add($0); next }
/^[a-z_]+ = / {
	value = $0
	sub(/^[a-z_]+ = /, "", value)
	sub(/;$/, "", value)
	option($1, value)
}
