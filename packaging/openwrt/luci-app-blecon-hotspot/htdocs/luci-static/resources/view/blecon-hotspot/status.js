// SPDX-License-Identifier: Apache-2.0
'use strict';
'require view';
'require rpc';
'require poll';
'require dom';

// Names of devices, texts of servers: none of it is ours. What E() and dom.content() get in an array
// becomes text, and by itself HTML: so texts are always in arrays here.

const REFRESH_S = 5;
const JOURNAL_LINES = 10;
const ENDED_LINES = 10;

const callStatus = declare('status');
const callDevices = declare('devices');
const callSessions = declare('sessions');
const callJournal = declare('journal');

function declare(method) {
	return rpc.declare({ object: 'blecon-hotspot', method: method, reject: true });
}

// A call that fails is an answer too: the page says so, and asks again.
function answer(call) {
	return call().then(function(reply) {
		if (reply !== null && typeof reply == 'object')
			return reply;
		return { error: _('rpcd gave no answer.'), unasked: true };
	}, function(err) {
		return {
			error: _('rpcd does not answer for the hotspot: %s').format(err.message || err),
			unasked: true
		};
	});
}

function ask() {
	return Promise.all([ callStatus, callDevices, callSessions, callJournal ].map(answer));
}

// --- Words ---

function duration(s) {
	if (s < 10)
		return _('%s s').format(s.toFixed(1));
	if (s < 120)
		return _('%d s').format(Math.round(s));
	if (s < 7200)
		return _('%d min').format(Math.round(s / 60));
	if (s < 172800)
		return _('%d h').format(Math.round(s / 3600));
	return _('%d days').format(Math.round(s / 86400));
}

function ago(s) {
	return s == null ? '-' : _('%s ago').format(duration(s));
}

function ms(value) {
	return value == null ? '-' : _('%d ms').format(value);
}

function bytes(value) {
	return value < 10000 ? _('%d bytes').format(value) : _('%d KB').format(Math.round(value / 1000));
}

// Of the Device URL what tells devices apart.
function shortName(url) {
	return String(url).replace(new RegExp('^.*/'), '');
}

// A daemon that is newer may have more words: they are shown as they are.
function word(words, key) {
	return words.hasOwnProperty(key) ? words[key] : String(key);
}

const UPLINK_STATES = {
	'unconfigured': _('no URL is configured'),
	'waiting': _('waiting for the next attempt'),
	'resolving': _('looking up the name'),
	'connecting': _('connecting'),
	'authenticating': _('authenticating'),
	'up': _('connected')
};

const BLUETOOTH_STATES = {
	'no-bus': _('D-Bus does not run'),
	'no-bluetoothd': _('bluetoothd does not run'),
	'no-access': _('D-Bus refuses access to bluetoothd'),
	'no-adapter': _('there is no adapter'),
	'not-scanning': _('not scanning'),
	'scanning': _('scanning')
};

const ADAPTER_STATES = {
	'off': _('switched off'),
	'blocked': _('blocked by rfkill'),
	'starting': _('starting'),
	'scanning': _('scanning'),
	'failed': _('failed')
};

const CONFIGURATION_STATES = {
	'started': _('as at the start'),
	'applied': _('changed while running'),
	'pending': _('being tried: reverted if the cloud is not reached'),
	'refused': _('the new settings are not valid: the last ones stay in use'),
	'reverted': _('the cloud was not reached: the last settings are in use again')
};

const SESSION_STATES = {
	'connecting': _('connecting'),
	'opening': _('opening channels'),
	'open': _('open'),
	'ending': _('ending')
};

const WAITS = {
	'ready': _('nothing, it is next'),
	'attempt': _('its adapter, which connects another device'),
	'no-slot': _('a free link'),
	'hold-off': _('a nearer hub, which may take it'),
	'silent': _('its next advert'),
	'weak': _('a stronger signal'),
	'back-off': _('its next attempt'),
	'no-uplink': _('the connection to the cloud'),
	'reconnect': _('a new connection to the cloud')
};

const RESULTS = {
	'served': _('served'),
	'broken': _('broken off'),
	'failed': _('failed'),
	'given-up': _('given up')
};

// --- Parts of the page ---

function section(title, content) {
	return E('div', { 'class': 'cbi-section' }, [ E('h3', {}, [ title ]) ].concat(content));
}

// rows: pairs of label and text; those without a text are left out.
function facts(rows) {
	return E('table', { 'class': 'table' }, rows.filter(function(row) {
		return row[1] != null && row[1] !== '';
	}).map(function(row) {
		return E('tr', { 'class': 'tr' }, [
			E('td', { 'class': 'td left', 'width': '33%' }, [ row[0] ]),
			E('td', { 'class': 'td left', 'style': 'overflow-wrap:anywhere' }, [ row[1] ])
		]);
	}));
}

// rows: lists of texts or nodes, one for each title. Themes show data-title on narrow screens.
function table(titles, rows, nothing) {
	const head = E('tr', { 'class': 'tr table-titles' }, titles.map(function(title) {
		return E('th', { 'class': 'th' }, [ title ]);
	}));

	if (rows.length == 0)
		return E('p', {}, [ E('em', {}, [ nothing ]) ]);

	return E('table', { 'class': 'table' }, [ head ].concat(rows.map(function(row) {
		return E('tr', { 'class': 'tr' }, row.map(function(cell, i) {
			return E('td', {
				'class': 'td left',
				'data-title': titles[i],
				'style': 'overflow-wrap:anywhere'
			}, [ cell ]);
		}));
	})));
}

function alertBox(kind, title, texts) {
	return E('div', { 'class': 'alert-message ' + kind, 'data-verdict': kind },
		[ E('h4', {}, [ title ]) ].concat(texts.map(function(text) {
			return E('p', { 'style': 'overflow-wrap:anywhere' }, [ text ]);
		})));
}

// -100 dBm is the least that is heard, -30 a device beside the hub.
function signal(dbm) {
	if (dbm == null)
		return '-';

	const percent = Math.max(0, Math.min(100, Math.round((dbm + 100) * 100 / 70)));

	return E('div', {
		'class': 'cbi-progressbar',
		'title': _('%d dBm').format(dbm),
		'style': 'min-width:6em'
	}, [ E('div', { 'style': 'width:' + percent + '%' }) ]);
}

function renderVerdict(status) {
	if (status.unasked)
		return alertBox('error', _('The hotspot cannot be asked'), [
			status.error,
			_('After an installation by hand rpcd has to be restarted: /etc/init.d/rpcd restart')
		]);

	if (status.error != null)
		return alertBox('error', _('The hotspot does not run'), [
			status.error,
			_('If it is switched on in the settings, the system log says why it ended, and by SSH the command "blecon-hotspotctl doctor" checks each step to the cloud.')
		]);

	if (status.working)
		return alertBox('success', _('The hotspot works'), [ status.summary ]);

	return alertBox('warning', _('The hotspot does not work'), [ status.summary ]);
}

function renderHub(status) {
	const configuration = status.configuration || {};

	return section(_('Hub'), facts([
		[ _('Hotspot ID'), status.hotspot_id ],
		[ _('Name at the cloud'), (status.uplink || {}).hotspot_name ],
		[ _('Version'), _('%s, running for %s').format(status.version, duration(status.uptime_s)) ],
		[ _('Memory'), _('%d KB, %d KB at most').format(status.process.rss_kb, status.process.peak_rss_kb) ],
		[ _('Run before'), status.process.last_end ],
		[ _('Clock'), status.clock.set ? status.clock.time : _('not set: %s').format(status.clock.time) ],
		[ _('Settings'), word(CONFIGURATION_STATES, configuration.state) ],
		[ _('Error in the settings'), configuration.error ],
		[ _('Waits for a restart'), configuration.needs_restart ]
	].map(function(row) {
		return [ row[0], Array.isArray(row[1]) ? row[1].join(', ') : row[1] ];
	})));
}

function renderUplink(uplink) {
	const error = uplink.error != null && uplink.state != 'up'
		? _('%s (%s)').format(uplink.error, ago(uplink.error_s)) : null;

	return section(_('Cloud'), facts([
		[ _('State'), _('%s for %s').format(word(UPLINK_STATES, uplink.state), duration(uplink.since_s)) ],
		[ _('Why'), error ],
		[ _('What to do'), uplink.advice ],
		[ _('Next attempt'), uplink.retry_in_s == null ? null : _('in %s').format(duration(uplink.retry_in_s)) ],
		[ _('URL'), uplink.url ],
		[ _('Address'), uplink.address ],
		[ _('Proxy'), uplink.proxy ],
		[ _('Ping'), uplink.rtt_us == null ? null : _('%s ms').format((uplink.rtt_us / 1000).toFixed(1)) ],
		[ _('Certificate of the server until'), uplink.certificate_until ],
		[ _('Certificate of the hotspot until'), uplink.own_certificate_until ],
		[ _('Attempts'), _('%d, of which %d connected').format(uplink.attempts, uplink.connects) ]
	]));
}

function renderAdapters(bluetooth) {
	const rows = bluetooth.adapters.map(function(a) {
		const state = !a.used ? _('not used')
			: word(ADAPTER_STATES, a.state) + (a.reason != null ? ': ' + a.reason : '');

		return [
			a.name, a.address, state,
			a.used ? _('%s a second').format(a.adverts_per_s.toFixed(1)) : '-',
			a.used ? ago(a.last_advert_s) : '-'
		];
	});

	return section(_('Bluetooth'), [
		facts([
			[ _('State'), word(BLUETOOTH_STATES, bluetooth.state) ],
			[ _('Why'), bluetooth.reason ],
			[ _('What to do'), bluetooth.advice ]
		]),
		table([ _('Adapter'), _('Address'), _('State'), _('Adverts'), _('Last advert') ], rows,
			_('There is no adapter.'))
	]);
}

function deviceState(d) {
	const states = [];

	if (d.state == 'lost')
		states.push(_('lost'));
	if (d.connected)
		states.push(_('connected'));
	else if (d.asks)
		states.push(_('asks for a connection'));
	if (d.announces)
		states.push(_('announces itself'));
	if (d.failures > 0)
		states.push(_('failed %d times: %s').format(d.failures, d.failure));
	return states.length > 0 ? states.join(', ') : _('present');
}

// Those that are lost last, and else the strongest first.
function weakness(d) {
	return (d.state == 'lost' ? 1000 : 0) - (d.rssi_dbm == null ? -200 : d.rssi_dbm);
}

function renderDevices(answered, known) {
	if (answered.error != null)
		return section(_('Devices'), [ E('p', {}, [ answered.error ]) ]);

	const devices = answered.devices.slice().sort(function(a, b) { return weakness(a) - weakness(b) });
	const rows = devices.map(function(d) {
		return [
			signal(d.rssi_dbm),
			E('span', { 'title': d.device_url }, [ shortName(d.device_url) ]),
			ago(d.last_s), String(d.count), deviceState(d)
		];
	});

	return section(_('Devices'), [
		table([ _('Signal'), _('Device'), _('Last heard'), _('Adverts'), _('State') ], rows,
			_('No Blecon device was heard yet.')),
		devices.length < known
			? E('p', {}, [ E('em', {}, [ _('These are the nearest %d of %d devices.').format(devices.length, known) ]) ])
			: ''
	]);
}

function renderLive(sessions) {
	return table([ _('Device'), _('State'), _('Over'), _('Frames up, down'), _('Waiting up, down') ],
		sessions.map(function(s) {
			return [
				E('span', { 'title': s.device_url }, [ shortName(s.device_url) ]),
				_('%s for %s').format(word(SESSION_STATES, s.state), duration(s.since_s)) +
					(s.suspended ? ', ' + _('waits for the cloud') : ''),
				[ s.adapter, s.bearer ].filter(function(x) { return x != null }).join(', '),
				'%d, %d'.format(s.frames_up, s.frames_down),
				'%d, %d'.format(s.waiting_up, s.waiting_down)
			];
		}), _('No device is connected.'));
}

function renderQueue(queue) {
	return table([ _('Device'), _('Waits for'), _('Since'), _('Failed') ], queue.map(function(q) {
		return [
			E('span', { 'title': q.device_url }, [ shortName(q.device_url) ]),
			word(WAITS, q.wait), ago(q.since_s),
			q.failures > 0 ? _('%d times: %s').format(q.failures, q.failure) : '-'
		];
	}), _('No device waits for a connection.'));
}

function renderEnded(last) {
	return table([ _('Device'), _('Ended'), _('Result'), _('To connect'), _('Carried up, down') ],
		last.slice(0, ENDED_LINES).map(function(s) {
			return [
				E('span', { 'title': s.device_url }, [ shortName(s.device_url) ]),
				ago(s.ended_s), word(RESULTS, s.result) + (s.reason != null ? ': ' + s.reason : ''),
				ms(s.connect_ms), bytes(s.bytes_up) + ', ' + bytes(s.bytes_down)
			];
		}), _('No session has ended yet.'));
}

function renderSessions(relay, sessions) {
	return section(_('Sessions'), [
		facts([
			[ _('Links'), _('%d of %d').format(relay.links, relay.slots) ],
			[ _('So far'), _('%d served, %d broken off, %d failed').format(relay.served, relay.broken, relay.failed) ]
		]),
		E('h4', {}, [ _('Connected') ]), renderLive(relay.sessions),
		E('h4', {}, [ _('Waiting') ]), renderQueue(relay.queue),
		E('h4', {}, [ _('Ended') ]),
		sessions.error != null ? E('p', {}, [ sessions.error ]) : renderEnded(sessions.last)
	]);
}

function renderJournal(journal) {
	if (journal.error != null)
		return section(_('Journal'), [ E('p', {}, [ journal.error ]) ]);

	const rows = journal.journal.slice().reverse().slice(0, JOURNAL_LINES).map(function(e) {
		return [ ago(e.age_s), e.count > 1 ? _('%d times').format(e.count) : _('once'), e.text ];
	});

	return section(_('Journal'), [
		table([ _('When'), _('How often'), _('What happened') ], rows, _('Nothing happened yet.'))
	]);
}

function renderAll(answers) {
	const status = answers[0], devices = answers[1], sessions = answers[2], journal = answers[3];

	if (status.error != null)
		return [ renderVerdict(status), renderJournal(journal) ];

	return [
		renderVerdict(status),
		renderUplink(status.uplink),
		renderDevices(devices, status.sightings.devices),
		renderSessions(status.relay, sessions),
		renderAdapters(status.bluetooth),
		renderHub(status),
		renderJournal(journal)
	];
}

return view.extend({
	load: ask,

	render: function(answers) {
		const content = E('div', { 'id': 'blecon-hotspot' }, renderAll(answers));

		poll.add(function() {
			return ask().then(function(news) {
				dom.content(content, renderAll(news));
			});
		}, REFRESH_S);

		return E('div', {}, [ E('h2', {}, [ _('Blecon hotspot') ]), content ]);
	},

	handleSave: null,
	handleSaveApply: null,
	handleReset: null
});
