// SPDX-License-Identifier: Apache-2.0
'use strict';
'require view';
'require form';
'require uci';

// Each option of blecon-hotspot.conf(5) is one of the UCI file, in the section of its group. They are
// shown as one section with tabs, so their names here are GROUP_OPTION. What is left empty has the
// default that stands in the field in grey.

const CONFIG = 'blecon-hotspot';
const GROUPS = [ 'main', 'uplink', 'auth', 'location', 'bluetooth', 'devices', 'relay' ];
const URLS_MAX = 8, PINS_MAX = 16, ADAPTERS_MAX = 64;
const HOST_MAX = 253, PATH_MAX = 1023, CREDENTIALS_MAX = 90, SOCKET_MAX = 107, TEXT_MAX = 64;

function byteLength(text) {
	return new Blob([ text ]).size;
}

function matches(text, pattern) {
	return new RegExp('^' + pattern + '$').test(text);
}

// --- What the daemon takes; each returns true, or what is wrong ---

function checkAuthority(text) {
	const v6 = text.charAt(0) == '[';
	const end = text.indexOf(v6 ? ']' : ':');
	const host = text.substring(v6 ? 1 : 0, end < 0 ? text.length : end);
	const rest = end < 0 ? '' : text.substring(end + (v6 ? 1 : 0));
	const port = rest.substring(1);

	if (text.indexOf('@') >= 0)
		return _('A user name or password does not belong into the URL.');
	if (v6 && (end < 0 || (rest != '' && rest.charAt(0) != ':')))
		return _('An IPv6 address is written [address] or [address]:port.');
	if (host == '' || host.length > HOST_MAX)
		return _('The host name is missing or too long.');
	if (rest != '' && !(matches(port, '[0-9]{1,5}') && +port >= 1 && +port <= 65535))
		return _('The port is not a number from 1 to 65535.');
	return true;
}

function checkUrl(value) {
	if (value.substring(0, 6).toLowerCase() != 'wss://')
		return _('The URL has to start with wss://');
	if (!matches(value, '[!-~]+') || value.indexOf('#') >= 0)
		return _('The URL has a #, a space, or a letter that a URL does not have.');

	const rest = value.substring(6);
	const authority = rest.replace(new RegExp('[/?].*$'), '');

	if (rest.length - authority.length > PATH_MAX)
		return _('The path is too long.');
	return checkAuthority(authority);
}

// The last letter of 32 bytes in base64 has two bits that must be 0.
function checkPin(value) {
	return matches(value, 'sha256//[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=') ||
		_('A pin is "sha256//" and 44 letters of base64.');
}

function checkCredentials(text) {
	const user = text.split(':')[0];

	if (text == '')
		return _('The user name is missing before the @.');
	if (!matches(text, '([^%]|%[0-9a-fA-F]{2})*'))
		return _('A % in user or password is not followed by two hexadecimal digits.');
	if (text.search(new RegExp('%([01][0-9a-f]|7f)', 'i')) >= 0)
		return _('User or password has a control character.');
	if (user.toLowerCase().indexOf('%3a') >= 0)
		return _('The user name has a colon, which a proxy cannot be sent.');
	if (text.replace(new RegExp('%..', 'g'), 'x').length > CREDENTIALS_MAX - (user == text ? 1 : 0))
		return _('User and password are too long.');
	return true;
}

function checkProxy(value) {
	const rest = value.substring(7).replace(new RegExp('/$'), '');
	const at = rest.lastIndexOf('@');
	const credentials = at < 0 ? true : checkCredentials(rest.substring(0, at));

	if (value == 'none')
		return true;
	if (value.substring(0, 7).toLowerCase() != 'http://')
		return _('The URL of a proxy has to start with http://');
	if (!matches(value, '[!-~]+'))
		return _('The URL has a space, or a letter that a URL does not have.');
	if (!matches(rest, '[^/?#]*'))
		return _('The URL of a proxy has no path; a /, ? or # in user or password is written %2F, %3F or %23.');
	return credentials === true ? checkAuthority(rest.substring(at + 1)) : credentials;
}

function checkPath(value) {
	return value.charAt(0) == '/' || _('The path has to start with a slash.');
}

function checkSocket(value) {
	if (byteLength(value) > SOCKET_MAX)
		return _('The path is longer than that of a socket may be.');
	return checkPath(value);
}

function checkText(value) {
	return byteLength(value) <= TEXT_MAX || _('The text has more than %d bytes.').format(TEXT_MAX);
}

function checkAdapter(value) {
	return matches(value, 'hci(0|[1-9][0-9]{0,2})') ||
		matches(value, '([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}') ||
		_('Neither a name like hci0 nor an address like 00:11:22:AA:BB:CC.');
}

// --- Options ---

// add(tab, group, name, title, help) and the like, for one section of one map.
function Options(section, names) {
	this.section = section;
	this.names = names;
}

Options.prototype = {
	add: function(type, tab, group, name, title, help) {
		const o = this.section.taboption(tab, type, group + '_' + name, title, help);

		o.ucisection = this.names[group];
		o.ucioption = name;
		return o;
	},

	number: function(tab, group, name, least, most, value, title, help) {
		const o = this.add(form.Value, tab, group, name, title,
			help + ' ' + _('From %s to %s.').format(least, most));

		o.datatype = 'and(integer,range(%s,%s))'.format(least, most);
		o.placeholder = String(value);
		return o;
	},

	// check is not asked where the field is empty.
	text: function(tab, group, name, value, check, title, help) {
		const o = this.add(form.Value, tab, group, name, title, help);

		o.placeholder = value;
		o.validate = function(section_id, text) {
			return text == null || text === '' || check(text);
		};
		return o;
	},

	degrees: function(tab, name, most, other, title, help) {
		const o = this.add(form.Value, tab, 'location', name, title, help);
		const section = this.section;

		o.datatype = 'and(float,range(-%s,%s))'.format(most, most);
		o.validate = function(section_id, value) {
			const both = !value == !section.formvalue(section_id, 'location_' + other);
			return both || _('Latitude and longitude are set together, or neither is.');
		};
		return o;
	},

	list: function(tab, group, name, most, check, title, help) {
		const o = this.add(form.DynamicList, tab, group, name, title, help);

		// In the file it may be an option: a list of one.
		o.load = function(section_id) {
			const value = form.DynamicList.prototype.load.apply(this, arguments);
			return typeof value == 'string' ? [ value ] : value;
		};
		o.validate = function(section_id, value) {
			const items = [].concat(this.formvalue(section_id) || []);

			if (value == null || value === '')
				return true;
			if (items.length >= most && items.indexOf(value) < 0)
				return _('There may be at most %d of them.').format(most);
			return check(value);
		};
		return o;
	},

	choice: function(tab, group, name, choices, value, title, help) {
		const o = this.add(form.ListValue, tab, group, name, title, help);

		choices.forEach(function(choice) { o.value(choice[0], choice[1]); });
		o.default = value;
		return o;
	},

	// UCI has many words for yes and no, a checkbox one of each. Nothing is written that was not
	// changed.
	flag: function(tab, group, name, value, title, help) {
		const o = this.add(form.Flag, tab, group, name, title, help);

		o.default = value;
		o.rmempty = false;
		o.load = function() {
			const word = form.Flag.prototype.load.apply(this, arguments);

			if ([ 'on', 'true', 'yes', 'enabled' ].indexOf(word) >= 0)
				return '1';
			return word == null || word === '' ? null : word;
		};
		o.write = function(section_id, checked) {
			const before = this.cfgvalue(section_id);

			if (checked !== (before == null ? this.default : before == '1' ? '1' : '0'))
				return form.Flag.prototype.write.apply(this, arguments);
		};
		return o;
	}
};

// The first may be at most the second; times is how many of its units the second has.
function ordered(section, first, second, times, message) {
	function check(section_id) {
		const low = section.formvalue(section_id, first.option) || first.placeholder;
		const high = section.formvalue(section_id, second.option) || second.placeholder;

		return +low <= +high * times || message;
	}

	first.validate = check;
	second.validate = check;
}

function addGeneral(options) {
	options.flag('general', 'main', 'enabled', '1', _('Switched on'),
		_('Whether the hotspot runs.'));
	options.list('general', 'uplink', 'url', URLS_MAX, checkUrl, _('URL of the cloud'),
		_('wss://host[:port]/path, or up to 8 of them, of which the first that works is used. Without one devices are heard, but nobody is told.'));
	options.text('general', 'uplink', 'ca_file', '/etc/ssl/certs/ca-certificates.crt', checkPath,
		_('CA certificates'),
		_('File (PEM) the certificate of the cloud is verified against. A private CA has its own file.'));
	options.list('general', 'uplink', 'pins', PINS_MAX, checkPin, _('Pinned keys'),
		_('Instead of CA certificates: the public keys the cloud may have, "sha256//" and the hash in base64, however wrong the clock is. Name the next one before it is used.'));
	options.text('general', 'uplink', 'proxy', '', checkProxy, _('Proxy'),
		_('http://[user:password@]host[:port], asked for a tunnel (CONNECT). "none": there is none. Empty: what the environment says. A password in it can be read by everyone who may see these settings.'));
	options.text('general', 'location', 'name', '', checkText, _('Name'),
		_('What the hub is called, told to the cloud. At most 64 bytes.'));
	options.degrees('general', 'latitude', 90, 'longitude', _('Latitude'),
		_('Where the hub is mounted, in degrees of WGS 84, north. From -90 to 90.'));
	options.degrees('general', 'longitude', 180, 'latitude', _('Longitude'),
		_('Degrees, east. From -180 to 180.'));
	options.number('general', 'location', 'accuracy_m', 0, 1000000, 0, _('Accuracy'),
		_('Of the position, in metres; 0: not known.'));
	options.text('general', 'location', 'floor', '', checkText, _('Floor'), _('At most 64 bytes.'));
	options.text('general', 'location', 'zone', '', checkText, _('Zone'), _('At most 64 bytes.'));
}

// Secrets are in files on the hub: here are their names alone. They stay set where they are not used.
function addIdentity(options) {
	const mode = options.choice('identity', 'auth', 'mode', [
		[ 'key', _('its own key alone') ],
		[ 'token', _('a bearer token as well') ],
		[ 'certificate', _('a TLS client certificate as well') ]
	], 'key', _('Shown to the cloud'), _('How the hotspot shows who it is.'));
	const token = options.text('identity', 'auth', 'token_file', '', checkPath,
		_('File of the token'),
		_('One line; read at each connection, so it can be replaced at any time. Best in /etc/blecon-hotspot, for the user blecon-hotspot alone.'));
	const certificate = options.text('identity', 'auth', 'certificate_file', '', checkPath,
		_('File of the certificate'),
		_('PEM, the certificate and what leads to its CA. For a request to the CA, by SSH: blecon-hotspotctl identity --csr'));

	token.depends(mode.option, 'token');
	certificate.depends(mode.option, 'certificate');
	[ token, certificate ].forEach(function(o) {
		o.rmempty = false;
		o.retain = true;
	});
}

function addConnection(options) {
	const tab = 'connection', group = 'uplink';

	options.number(tab, group, 'connect_timeout_s', 1, 300, 15, _('Time to connect'),
		_('Seconds for each step: TCP to each address, TLS, upgrade, hello. A slow link wants more.'));
	options.number(tab, group, 'ping_interval_s', 0, 86400, 30, _('Ping after'),
		_('Seconds of silence of the cloud; 0: never. Pings keep NATs and proxies open and find a dead line.'));
	options.number(tab, group, 'ping_timeout_s', 1, 300, 10, _('Time for the answer to a ping'),
		_('Seconds until the line counts as dead.'));
	ordered(options.section,
		options.number(tab, group, 'backoff_min_ms', 100, 60000, 1000, _('First wait'),
			_('Milliseconds: the wait after the first failure is random up to this.')),
		options.number(tab, group, 'backoff_max_s', 1, 86400, 300, _('Longest wait'),
			_('Seconds. The wait doubles from failure to failure until then.')),
		1000, _('The first wait is longer than the longest.'));
	options.number(tab, group, 'report_interval_s', 0, 86400, 60, _('Report each'),
		_('Seconds between reports of devices that stay; 0: never. News goes at once.'));
	options.number(tab, group, 'stats_interval_s', 0, 86400, 3600, _('Counters each'),
		_('Seconds between counters for whoever looks after many hotspots; 0: never.'));
	options.number(tab, group, 'sightings_kb_per_day', 0, 10000000, 0, _('Budget for reports'),
		_('Kilobytes in 24 hours that reports may take; 0: no limit. Device sessions do not count.'));
	options.number(tab, group, 'reload_revert_s', 0, 3600, 30, _('Revert after'),
		_('Seconds without reaching the cloud after a change of how it is reached, until the last settings that did are used again; 0: never.'));
}

function addBluetooth(options) {
	options.list('bluetooth', 'bluetooth', 'adapters', ADAPTERS_MAX, checkAdapter, _('Adapters'),
		_('Names like hci0, or addresses, which never change. None: every adapter there is.'));
	options.flag('bluetooth', 'bluetooth', 'duplicate_data', '0', _('Unchanged data again'),
		_('Asks BlueZ to repeat it: costs CPU, helps devices that change address.'));
	options.number('bluetooth', 'bluetooth', 'silence_s', 0, 86400, 90, _('Deaf after'),
		_('Seconds an adapter hears nothing until it is restarted, step by step; 0: never. More where no device is around for long.'));
	options.number('bluetooth', 'devices', 'max', 16, 65536, 1000, _('Devices remembered'),
		_('At once, 0.5 KB of memory each. The oldest make room.'));
	options.number('bluetooth', 'devices', 'lost_after_s', 1, 86400, 60, _('Lost after'),
		_('Seconds of silence until a device counts as lost.'));
}

function addSessions(options) {
	const tab = 'sessions', group = 'relay';

	options.choice(tab, group, 'bearer', [
		[ 'auto', _('L2CAP where that works, else GATT') ],
		[ 'l2cap', _('L2CAP alone') ],
		[ 'gatt', _('GATT alone') ]
	], 'auto', _('Over'), _('How devices are connected.'));
	options.number(tab, group, 'max_links', 0, 16, 8, _('Links'),
		_('At once on all adapters; 0: connect no device. Each takes some of the connection to the cloud.'));
	options.number(tab, group, 'max_links_per_adapter', 1, 16, 4, _('Links of one adapter'),
		_('At once. Controllers do 3 to 10.'));
	options.number(tab, group, 'holdoff_ms', 0, 5000, 1000, _('Leave to nearer hubs'),
		_('Milliseconds at most: the weaker a device is heard, the longer another hub may take it; 0: this is the only hub.'));
	options.number(tab, group, 'resume_max_s', 0, 600, 60, _('Outlive the connection by'),
		_('Seconds at most that a session waits for the cloud to be connected again; 0: it ends with the connection.'));
	options.number(tab, group, 'rssi_floor_dbm', -127, 20, -95, _('Weakest signal'),
		_('dBm: a device heard more weakly is reported, but not connected.'));
	options.number(tab, group, 'idle_timeout_s', 1, 3600, 30, _('Idle for'),
		_('Seconds without a frame until a session is ended.'));
	options.number(tab, group, 'max_duration_s', 1, 86400, 600, _('Longest session'),
		_('Seconds, however busy it is.'));
	ordered(options.section,
		options.number(tab, group, 'retry_min_s', 1, 3600, 5, _('First retry after'),
			_('Seconds after the first failure of a device, with jitter.')),
		options.number(tab, group, 'retry_max_s', 1, 86400, 300, _('Longest retry after'),
			_('Seconds: the longest that wait gets.')),
		1, _('The first retry is later than the longest.'));
}

function addHub(options) {
	options.choice('hub', 'main', 'log_level', [
		[ 'error', _('error: somebody must act') ],
		[ 'warning', _('warning: what failed') ],
		[ 'info', _('info: what happened') ],
		[ 'debug', _('debug: every advert and message') ]
	], 'info', _('Log level'), _('What goes to the system log.'));
	options.text('hub', 'main', 'state_dir', '/etc/blecon-hotspot', checkPath, _('State'),
		_('Where the key of the hotspot is kept: without it the hotspot is another one. Written to at a start, at a stop, and else at most once an hour.'));
	options.text('hub', 'main', 'status_socket', '/var/run/blecon-hotspot/status.sock', checkSocket,
		_('Status socket'), _('What this page and blecon-hotspotctl ask; in a folder of its own, in memory.'));
	options.flag('hub', 'main', 'jail', '1', _('Jail'),
		_('Runs the hotspot in a jail of procd, where that is installed. A change takes a restart of the service.'));
}

// A file that was made by hand may lack sections, or have names of its own for them.
function sectionNames() {
	const names = {};

	GROUPS.forEach(function(group) {
		const found = uci.sections(CONFIG, group);

		names[group] = found.length > 0 ? found[0]['.name'] : uci.add(CONFIG, group, group);
	});
	return names;
}

return view.extend({
	load: function() {
		return uci.load(CONFIG);
	},

	render: function() {
		const names = sectionNames();
		const map = new form.Map(CONFIG, _('Blecon hotspot'),
			_('Changes do not drop the connection of a device; those that wait for a restart the status page names. What is left empty has the default shown in grey.'));
		const section = map.section(form.NamedSection, names.main, 'main');
		const options = new Options(section, names);

		section.addremove = false;
		section.tab('general', _('General'));
		section.tab('identity', _('Identity'));
		section.tab('connection', _('Connection'));
		section.tab('bluetooth', _('Bluetooth'));
		section.tab('sessions', _('Sessions'));
		section.tab('hub', _('Hub'));
		addGeneral(options);
		addIdentity(options);
		addConnection(options);
		addBluetooth(options);
		addSessions(options);
		addHub(options);
		return map.render();
	}
});
