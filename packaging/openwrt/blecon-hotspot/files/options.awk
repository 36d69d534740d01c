# SPDX-License-Identifier: Apache-2.0
# What kind of value each option of the commented example takes: "SECTION.OPTION KIND" a line.
# Its default tells: string, list, bool, int, or number where it has a fraction.

{ sub(/^\t/, "") }
/^[a-z]+: \{/ { section = substr($1, 1, length($1) - 1); next }
/^\};/ { section = ""; next }
/^(# )?[a-z_]+ = .*;$/ {
	sub(/^# /, "")
	value = $0
	sub(/^[a-z_]+ = /, "", value)
	kind = "int"
	if (value ~ /^"/)
		kind = "string"
	else if (value ~ /^\[/)
		kind = "list"
	else if (value ~ /^(true|false);/)
		kind = "bool"
	else if (value ~ /\./)
		kind = "number"
	print (section == "" ? "main" : section) "." $1, kind
}
