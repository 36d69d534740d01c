/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/certificates.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* issue NAME KEY SUBJECT CA FROM UNTIL EXTENSIONS... */
static const char script[] =
	"set -e\n"
	"exec >log 2>&1\n"
	"ec='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'\n"
	"cat >ca.cnf <<END\n"
	"[ca]\n"
	"default_ca = it\n"
	"[it]\n"
	"database = index.txt\n"
	"new_certs_dir = .\n"
	"default_md = sha256\n"
	"policy = any\n"
	"unique_subject = no\n"
	"rand_serial = yes\n"
	"[any]\n"
	"commonName = optional\n"
	"END\n"
	": >index.txt\n"
	"issue() {\n"
	"	name=$1 key=$2 subject=$3 ca=$4 from=$5 until=$6\n"
	"	shift 6\n"
	"	printf '%s\\n' \"$@\" >ext\n"
	"	openssl req -new -key $key.key -subj \"$subject\" -out csr\n"
	"	openssl ca -batch -config ca.cnf -in csr -out $name.pem -notext -extfile ext \\\n"
	"		-cert $ca.pem -keyfile $ca.key -startdate $from -enddate $until\n"
	"}\n"
	"past=20200101000000Z later=20990101000000Z\n"
	"hub=subjectAltName=DNS:hub.example.com,DNS:b.example,IP:127.0.0.1\n"
	"openssl req -x509 $ec -keyout ca.key -out ca.pem -days 3650 -subj '/CN=Test CA'\n"
	"openssl req -x509 $ec -keyout other.key -out other.pem -days 3650 -subj '/CN=Other CA'\n"
	"openssl req -x509 $ec -keyout leaf.key -out self.pem -days 3650 \\\n"
	"	-subj /CN=hub.example.com -addext $hub\n"
	"openssl req -x509 -key leaf.key -out long.pem -subj \\\n"
	"	/O=0123456789012345678901234567890123456789/"
	"OU=0123456789012345678901234567890123456789/OU=x\n"
	"openssl req -x509 -key leaf.key -out odd.pem -subj \"/O=x/CN=a$(printf '\\n\\033')b\"\n"
	"openssl genrsa -out weak.key 1024\n"
	"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out old.key\n"
	"issue good leaf /CN=hub.example.com ca $past $later $hub\n"
	"issue unknown leaf /CN=hub.example.com other $past $later $hub\n"
	"issue expired leaf /CN=hub.example.com ca $past 20250102030400Z $hub\n"
	"issue future leaf /CN=hub.example.com ca 20980102030400Z $later $hub\n"
	"issue elsewhere leaf /CN=a.example ca $past $later \\\n"
	"	subjectAltName=DNS:a.example,DNS:c.example,IP:192.0.2.1\n"
	"issue many leaf / ca $past $later \\\n"
	"	subjectAltName=critical,DNS:1.example,DNS:2.example,DNS:3.example,DNS:4.example,"
	"DNS:5.example\n"
	"issue worst leaf /CN=a.example other $past 20250102030400Z subjectAltName=DNS:a.example\n"
	"issue client leaf /CN=client ca $past $later extendedKeyUsage=clientAuth $hub\n"
	"issue weak weak /CN=hub.example.com ca $past $later $hub\n"
	"issue old old '/CN=Old CA' ca $past 20250102030400Z basicConstraints=critical,CA:true\n"
	"issue below leaf /CN=hub.example.com old $past $later $hub\n"
	"cat below.pem old.pem >chain.pem\n"
	"openssl pkey -in leaf.key -pubout -outform der | openssl dgst -sha256 -binary |\n"
	"	openssl base64 | sed 's,^,sha256//,' | tr -d '\\n' >leaf.pin\n";

static int in_directory(const char *commands)
{
	char line[sizeof(script) + CERTIFICATE_PATH + 16];

	snprintf(line, sizeof(line), "cd '%s'\n%s", directory, commands);
	return system(line) == 0 ? 0 : -1;
}

int make_certificates(void **state)
{
	if (make_directory(state) < 0)
		return -1;
	if (in_directory(script) == 0)
		return 0;
	in_directory("cat log; rm -f *");
	remove_directory(state);
	return -1;
}

int remove_certificates(void **state)
{
	in_directory("rm -f *");
	return remove_directory(state);
}

const char *certificate_path(const char *name, char ret[CERTIFICATE_PATH])
{
	snprintf(ret, CERTIFICATE_PATH, "%s/%s", directory, name);
	return ret;
}
