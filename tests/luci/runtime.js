// SPDX-License-Identifier: Apache-2.0
// Stands in for LuCI's runtime, which is not to be had here: as much of its documented API as the
// pages use, as documented, and where the documentation has a trap, with the trap. What the pages use
// beyond it is an error, so that this does not claim more than it is.
'use strict';

window.errors = [];
window.addEventListener('error', (event) => window.errors.push(String(event.message)));
window.addEventListener('unhandledrejection', (event) => window.errors.push(String(event.reason)));

// --- Texts ---

// Of the formats of LuCI those that the pages use; %h is text made safe for HTML.
String.prototype.format = function(...values) {
	return this.replace(/%(.)/g, (all, kind) => {
		if (kind === '%')
			return '%';
		if (values.length === 0)
			throw new Error(`too few values for the format "${this}"`);
		const value = values.shift();
		if (kind === 's')
			return String(value);
		if (kind === 'd') {
			// LuCI would cut it off, or show 0.
			if (!Number.isInteger(+value))
				throw new Error(`${value} is no integer in the format "${this}"`);
			return String(+value);
		}
		throw new Error(`no format ${all}`);
	});
};

// Translations are marked, so that a text without _() is found.
window._ = (text) => window.TRANSLATE ? `«${text}»` : text;

// --- LuCI.dom ---

const dom = {
	// An array's items become text; a text by itself is HTML. That is the trap.
	append(node, children) {
		if (Array.isArray(children)) {
			for (const child of children) {
				if (child instanceof Node)
					node.appendChild(child);
				else if (child !== null && child !== undefined)
					node.appendChild(document.createTextNode(String(child)));
			}
		} else if (typeof children === 'function') {
			return dom.append(node, children(node));
		} else if (children instanceof Node) {
			node.appendChild(children);
		} else if (children !== null && children !== undefined) {
			node.innerHTML += String(children);
		}
		return node.lastChild;
	},

	content(node, children) {
		node.textContent = '';
		return dom.append(node, children);
	},

	create(name, attributes, children) {
		const node = document.createElement(name);
		for (const [key, value] of Object.entries(attributes || {})) {
			if (typeof value === 'function')
				node.addEventListener(key, value);
			else if (value !== null && value !== undefined)
				node.setAttribute(key, typeof value === 'object' ? JSON.stringify(value) : value);
		}
		dom.append(node, children);
		return node;
	},
};
window.E = dom.create;

// --- LuCI.rpc ---

let lastId = 0;

async function ubus(object, method, params) {
	const response = await fetch('/ubus', {
		method: 'POST',
		body: JSON.stringify({ jsonrpc: '2.0', id: ++lastId, method: 'call',
			params: ['session', object, method, params] }),
	});
	const message = await response.json();
	if (message.error)
		throw new Error(`RPC call to ${object}/${method} failed with error ` +
			`${message.error.code}: ${message.error.message}`);
	return message.result;
}

const rpc = {
	declare(options) {
		const known = ['object', 'method', 'params', 'reject'];
		const unknown = Object.keys(options).filter((key) => !known.includes(key));
		if (unknown.length > 0)
			throw new Error(`not in this rpc: ${unknown}`);
		return async (...values) => {
			const params = {};
			(options.params || []).forEach((name, i) => { params[name] = values[i]; });
			const result = await ubus(options.object, options.method, params);
			if (options.reject && result[0] !== 0)
				throw new Error(`RPC call to ${options.object}/${options.method} failed with ` +
					`ubus code ${result[0]}`);
			return result.length > 1 ? result[1] : result[0];
		};
	},
};

// --- LuCI.poll: in seconds, from one call's end to the next one's begin at the earliest ---

const poll = {
	add(call, seconds) {
		const again = () => call().finally(() => window.setTimeout(again, seconds * 1000));
		window.setTimeout(again, seconds * 1000);
		return true;
	},
};

// --- LuCI.uci ---

const uci = {
	values: {}, creates: {}, changes: {}, deletes: {},

	async load(config) {
		if (!this.values[config])
			this.values[config] = (await ubus('uci', 'get', { config }))[1].values;
	},

	section(config, sid) {
		return (this.creates[config] || {})[sid] || (this.values[config] || {})[sid];
	},

	sections(config, type) {
		return Object.values({ ...this.values[config], ...this.creates[config] })
			.filter((section) => section['.type'] === type);
	},

	add(config, type, name) {
		this.creates[config] = this.creates[config] || {};
		this.creates[config][name] = { '.type': type, '.name': name };
		return name;
	},

	get(config, sid, option) {
		const deleted = ((this.deletes[config] || {})[sid] || []).includes(option);
		const changed = ((this.changes[config] || {})[sid] || {})[option];
		if (changed !== undefined)
			return changed;
		return deleted ? undefined : (this.section(config, sid) || {})[option];
	},

	set(config, sid, option, value) {
		const section = this.section(config, sid);
		if (!section)
			return;
		if ((this.creates[config] || {})[sid]) {
			section[option] = value;
			return;
		}
		((this.changes[config] = this.changes[config] || {})[sid] =
			this.changes[config][sid] || {})[option] = value;
	},

	unset(config, sid, option) {
		const section = this.section(config, sid) || {};
		delete ((this.changes[config] || {})[sid] || {})[option];
		if ((this.creates[config] || {})[sid])
			delete section[option];
		else if (option in section)
			((this.deletes[config] = this.deletes[config] || {})[sid] =
				this.deletes[config][sid] || []).push(option);
	},

	async save() {
		const done = [];
		for (const config of Object.keys(this.values)) {
			for (const section of Object.values(this.creates[config] || {})) {
				const values = Object.fromEntries(Object.entries(section)
					.filter(([key]) => !key.startsWith('.')));
				done.push(ubus('uci', 'add', { config, type: section['.type'],
					name: section['.name'], values }));
			}
			for (const [section, values] of Object.entries(this.changes[config] || {})) {
				if (Object.keys(values).length > 0)
					done.push(ubus('uci', 'set', { config, section, values }));
			}
			for (const [section, options] of Object.entries(this.deletes[config] || {}))
				done.push(ubus('uci', 'delete', { config, section, options }));
		}
		await Promise.all(done);
		const loaded = Object.keys(this.values);
		Object.assign(this, { values: {}, creates: {}, changes: {}, deletes: {} });
		await Promise.all(loaded.map((config) => this.load(config)));
	},
};

// --- LuCI.validation: each type asserts something of a value ---

const decimal = (value) => /^-?\d+(?:\.\d+)?$/.test(value) ? +value : NaN;
const datatypes = {
	integer: (value) => /^-?\d+$/.test(value) || 'valid integer value',
	float: (value) => !isNaN(decimal(value)) || 'valid decimal value',
	range: (value, least, most) => (decimal(value) >= +least && decimal(value) <= +most) ||
		`value between ${least} and ${most}`,
};

function checkDatatype(expression, value) {
	const [, name, inner] = /^(\w+)(?:\((.*)\))?$/.exec(expression);
	if (name !== 'and')
		return datatypes[name](value, ...(inner ? inner.split(',') : []));
	for (const part of inner.match(/\w+(?:\([^()]*\))?/g)) {
		const verdict = checkDatatype(part, value);
		if (verdict !== true)
			return verdict;
	}
	return true;
}

// --- LuCI.form ---

const equal = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const toArray = (value) => value === null || value === undefined ? []
	: Array.isArray(value) ? value : String(value).trim().split(/\s+/);

class AbstractValue {
	constructor(map, section, option, title, description) {
		Object.assign(this, { map, section, option, title, description, deps: [], choices: [],
			rmempty: true, optional: false, retain: false, default: null, active: true, data: {} });
	}

	depends(option, value) { this.deps.push([option, value]); }
	value(key, text) { this.choices.push([key, text === undefined ? key : text]); }
	validate() { return true; }
	load(sid) { return uci.get(this.map.config, this.ucisection || sid, this.ucioption || this.option); }
	cfgvalue(sid) { return this.data[sid] === undefined ? null : this.data[sid]; }
	write(sid, value) {
		uci.set(this.map.config, this.ucisection || sid, this.ucioption || this.option, value);
	}
	remove(sid) { uci.unset(this.map.config, this.ucisection || sid, this.ucioption || this.option); }
	cbid(sid) { return `cbid.${this.map.config}.${sid}.${this.option}`; }
	isValid() { return !this.message; }

	render(sid) {
		this.sid = sid;
		this.node = E('div', { 'class': 'cbi-value', 'data-name': this.option }, [
			E('label', { 'class': 'cbi-value-title' }, [this.title]),
			E('div', { 'class': 'cbi-value-field' }, [
				E('div', { 'id': this.cbid(sid) }, [this.renderWidget(sid)]),
				// As LuCI has it: HTML.
				E('div', { 'class': 'cbi-value-description' }, this.description),
				E('div', { 'class': 'wrong' }, []),
			]),
		]);
		this.node.addEventListener('change', () => this.map.checkDepends());
		this.node.addEventListener('input', () => this.map.checkDepends());
		return this.node;
	}

	// What stands in one input: the type is asked first, an empty one is no error where it may be.
	verdict(value) {
		if (value === '' && !(this.optional || this.rmempty))
			return 'Expecting: non-empty value';
		if (value !== '' && this.datatype) {
			const verdict = checkDatatype(this.datatype, value);
			if (verdict !== true)
				return `Expecting: ${verdict}`;
		}
		return this.validate(this.sid, value);
	}

	triggerValidation() {
		const verdicts = this.inputs().map((value) => this.verdict(value));
		const wrong = verdicts.find((verdict) => verdict !== true);
		this.message = this.active && wrong !== undefined ? String(wrong) : null;
		this.node.classList.toggle('cbi-value-error', this.message !== null);
		this.node.querySelector('.wrong').textContent = this.message || '';
	}

	parse(sid) {
		const value = this.active ? this.formvalue(sid) : null;
		if (!this.active) {
			if (!this.retain)
				this.remove(sid);
			return;
		}
		if (!this.isValid())
			throw new TypeError(`Option "${this.title}" contains an invalid input value.`);
		if (value === null || String(value) === '' ||
		    (value === this.default && (this.optional || this.rmempty))) {
			if (this.rmempty || this.optional)
				this.remove(sid);
		} else if (!equal(value, this.cfgvalue(sid))) {
			this.write(sid, value);
		}
	}
}

class Value extends AbstractValue {
	renderWidget(sid) {
		const value = this.cfgvalue(sid);
		this.input = E('input', { 'class': 'cbi-input-text', 'placeholder': this.placeholder });
		this.input.value = value !== null ? value : this.default !== null ? this.default : '';
		return this.input;
	}

	formvalue() { return this.input ? this.input.value : null; }
	inputs() { return [this.input.value]; }
}

class ListValue extends AbstractValue {
	renderWidget(sid) {
		const value = this.cfgvalue(sid) === null ? this.default : this.cfgvalue(sid);
		this.input = E('select', { 'class': 'cbi-input-select' }, this.choices.map(([key, text]) =>
			E('option', { value: key, selected: key === value ? '' : null }, [text])));
		return this.input;
	}

	formvalue() { return this.input ? this.input.value : null; }
	inputs() { return [this.input.value]; }
}

class Flag extends AbstractValue {
	constructor(...args) {
		super(...args);
		Object.assign(this, { enabled: '1', disabled: '0', default: '0' });
	}

	renderWidget(sid) {
		const value = this.cfgvalue(sid) === null ? this.default : this.cfgvalue(sid);
		this.input = E('input', { type: 'checkbox' });
		this.input.checked = value === this.enabled;
		return this.input;
	}

	formvalue() { return this.input && this.input.checked ? this.enabled : this.disabled; }
	inputs() { return [this.formvalue()]; }

	// Unlike the others it is written whether it has changed or not.
	parse(sid) {
		if (!this.active)
			return this.retain ? undefined : this.remove(sid);
		const value = this.formvalue(sid);
		return value === this.default && (this.optional || this.rmempty) ? this.remove(sid)
			: this.write(sid, value);
	}
}

class DynamicList extends AbstractValue {
	renderWidget(sid) {
		this.items = E('div', { 'class': 'items' });
		this.input = E('input', { 'class': 'add-item', 'placeholder': this.placeholder });
		toArray(this.cfgvalue(sid)).forEach((item) => this.addItem(item));
		return E('div', { 'class': 'cbi-dynlist' }, [this.items, E('div', { 'class': 'adding' }, [
			this.input, E('button', { 'class': 'btn add', 'click': () => this.add() }, ['+'])])]);
	}

	addItem(text) {
		const item = E('div', { 'class': 'item' }, [E('span', {}, [text])]);
		item.appendChild(E('button', { 'class': 'btn remove', 'click': () => {
			item.remove();
			this.map.checkDepends();
		} }, ['×']));
		this.items.appendChild(item);
	}

	// Only what is valid is taken in.
	add() {
		this.map.checkDepends();
		if (this.message || this.input.value === '')
			return;
		this.addItem(this.input.value);
		this.input.value = '';
		this.map.checkDepends();
	}

	formvalue() {
		return this.items ? [...this.items.querySelectorAll('span')].map((e) => e.textContent) : null;
	}

	inputs() { return [this.input.value]; }
}

class NamedSection {
	constructor(map, sid, type) {
		Object.assign(this, { map, sid, type, tabs: [], children: [], addremove: false });
	}

	tab(name, title) { this.tabs.push({ name, title, children: [] }); }

	taboption(tab, Type, name, title, description) {
		const option = new Type(this.map, this, name, title, description);
		if (this.children.some((other) => other.option === name))
			throw new Error(`two options are called ${name}`);
		this.children.push(option);
		this.tabs.find((t) => t.name === tab).children.push(option);
		return option;
	}

	formvalue(sid, name) {
		const option = this.children.find((o) => o.option === name);
		return option.active ? option.formvalue(sid) : null;
	}

	render() {
		if (!uci.section(this.map.config, this.sid))
			return E('em', {}, ['This section contains no values yet']);
		for (const option of this.children)
			option.data[this.sid] = option.load(this.sid);
		const menu = E('ul', { 'class': 'cbi-tabmenu' }, this.tabs.map((tab) => E('li', {
			'data-tab': tab.name, 'click': () => this.select(tab.name) }, [tab.title])));
		this.panes = this.tabs.map((tab) => E('div', { 'data-tab': tab.name, 'class': 'pane' },
			tab.children.map((option) => option.render(this.sid))));
		this.menu = menu;
		this.select(this.tabs[0].name);
		return E('div', { 'class': 'cbi-section' }, [menu, ...this.panes]);
	}

	select(name) {
		for (const node of [...this.menu.children, ...this.panes])
			node.classList.toggle('active', node.dataset.tab === name);
	}
}

class FormMap {
	constructor(config, title, description) {
		Object.assign(this, { config, title, description, sections: [] });
		maps.push(this);
	}

	section(Type, ...args) {
		this.sections.push(new Type(this, ...args));
		return this.sections.at(-1);
	}

	async render() {
		await uci.load(this.config);
		this.root = this.root || E('div', { 'class': 'cbi-map' });
		dom.content(this.root, [E('h2', {}, [this.title]),
			E('div', { 'class': 'cbi-map-descr' }, this.description),
			...this.sections.map((section) => section.render())]);
		this.checkDepends();
		return this.root;
	}

	checkDepends() {
		for (const section of this.sections) {
			for (const option of section.children) {
				option.active = option.deps.length === 0 || option.deps.some(
					([name, value]) => section.formvalue(section.sid, name) === value);
				option.node.classList.toggle('hidden', !option.active);
			}
			for (const option of section.children)
				option.triggerValidation();
		}
	}

	async save() {
		this.checkDepends();
		for (const section of this.sections) {
			for (const option of section.children)
				option.parse(section.sid);
		}
		await uci.save();
		await this.render();
	}
}

const maps = [];
const form = { Map: FormMap, NamedSection, Value, ListValue, Flag, DynamicList };

// --- LuCI.view ---

class View {
	load() {}

	async handleSave() {
		document.getElementById('notice').textContent = '';
		try {
			await Promise.all(maps.map((map) => map.save()));
			document.body.dataset.saved = +(document.body.dataset.saved || 0) + 1;
		} catch (err) {
			document.getElementById('notice').textContent = err.message;
			throw err;
		}
	}

	async handleSaveApply() {
		await this.handleSave();
		await ubus('uci', 'apply', { rollback: true, timeout: 90 });
		await ubus('uci', 'confirm', {});
	}

	handleReset() { return Promise.all(maps.map((map) => map.render())); }

	footer() {
		const button = (handler, id, text) => handler
			? E('button', { id, 'class': 'btn', 'click': () => handler.call(this).catch(() => {}) },
				[text])
			: null;
		return E('div', { 'class': 'cbi-page-actions' }, [
			button(this.handleSaveApply, 'apply', 'Save & Apply'),
			button(this.handleSave, 'save', 'Save'), button(this.handleReset, 'reset', 'Reset')]);
	}

	static extend(members) {
		const Extended = class extends View {};
		Object.assign(Extended.prototype, members);
		return Extended;
	}
}

// --- The page ---

const modules = { view: View, rpc, poll, dom, uci, form };

window.show = async function(path) {
	const source = await (await fetch(`/luci-static/resources/view/${path}.js`)).text();
	const required = [...source.matchAll(/^'require (\w+)';$/gm)].map((match) => match[1]);
	const missing = required.filter((name) => !modules[name]);
	if (missing.length > 0)
		throw new Error(`not in this runtime: ${missing}`);
	// A function has only what it is given, as LuCI's modules do.
	const load = new Function('E', '_', ...required, source);
	const view = new (load(E, window._, ...required.map((name) => modules[name])))();
	const content = await view.render(await view.load());
	dom.content(document.getElementById('view'), [content, view.footer()]);
	document.body.dataset.ready = 'yes';
};
