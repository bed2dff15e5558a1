// Shows the dashboard as a person would read it: asks a Prometheus what each
// panel asks, and takes the answers through Grafana's own data library. Fails
// where a transformation, an override or a link names a column that is not
// there, where a variable or a panel finds nothing, and where a job is lost or
// doubled. Nothing is drawn.
//
//   node check.mjs http://localhost:9090
//   node check.mjs --var status=failed http://localhost:9090
//   node check.mjs --record answers.json http://localhost:9090
//   node check.mjs --answers answers.json
//
// The demo has neither a budget nor job files, and no prices unless
// deploy/prometheus/cost.yml gives them: --may-be-empty 'Budget used' …

import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';
import { firstValueFrom } from 'rxjs';

const {
  FieldType, Registry, applyFieldOverrides, booleanOverrideProcessor, createTheme, dataLinksOverrideProcessor,
  dateTime, displayNameOverrideProcessor, formattedValueToString, getFieldDisplayName,
  getFieldDisplayValues, getValueFormats, numberOverrideProcessor, standardTransformers,
  standardTransformersRegistry, stringOverrideProcessor, thresholdsOverrideProcessor, transformDataFrame,
  unitOverrideProcessor, valueMappingsOverrideProcessor,
} = createRequire(import.meta.url)('@grafana/data'); // its ES modules import what Node cannot

globalThis.window ??= globalThis; // as in a browser, but only now: one of its libraries would look for a document
globalThis.navigator ??= { languages: ['en'] };

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    dashboard: { type: 'string', default: new URL('../../deploy/grafana/dashboards/cohere_exporter.json', import.meta.url).pathname },
    range: { type: 'string', default: '15m' },                    // time range shown, up to now
    var: { type: 'string', multiple: true, default: [] },         // NAME=VALUE, repeatable; All otherwise
    'may-be-empty': { type: 'string', multiple: true, default: [] }, // title of a panel, repeatable
    record: { type: 'string' },
    answers: { type: 'string' },
  },
});
const prometheus = positionals[0] ?? process.env.PROMETHEUS_URL;
if (!prometheus === !flags.answers) {
  console.error('usage: node check.mjs [flags] URL, or node check.mjs --answers FILE');
  process.exit(2);
}

const dashboard = JSON.parse(readFileSync(flags.dashboard, 'utf8'));
const panels = dashboard.panels.flatMap((p) => [p, ...(p.panels ?? [])]); // as if every row were opened
const theme = createTheme({ colors: { mode: 'dark' } });
const faults = new Set();
const fault = (where, what) => faults.add(`${where}: ${what}`);

standardTransformersRegistry.setInit(() =>
  [...new Set(Object.values(standardTransformers))].map((t) => ({ id: t.id, aliasIds: t.aliasIds, name: t.name, transformation: async () => t })));

// --- Answers of Prometheus, live or recorded

const recorded = flags.answers ? JSON.parse(readFileSync(flags.answers, 'utf8')) : { now: Math.floor(Date.now() / 1000), answers: {} };
const now = recorded.now;
const seconds = (s) => Number(s.slice(0, -1)) * { s: 1, m: 60, h: 3600, d: 86400 }[s.at(-1)];
const range = seconds(flags.range);

async function ask(path, params) {
  const key = `${path}?${new URLSearchParams(params)}`;
  if (flags.answers) {
    if (!(key in recorded.answers)) throw new Error(`no recorded answer for ${key}`);
    return recorded.answers[key];
  }
  const response = await fetch(new URL(`/api/v1/${path}`, prometheus), path.startsWith('query')
    ? { method: 'POST', body: new URLSearchParams(params) } : {});
  const body = await response.json();
  if (body.status !== 'success') throw new Error(`${body.error}\n${params.query}`);
  return (recorded.answers[key] = body.data);
}
const instant = async (query) => (await ask('query', { query, time: now })).result;
const ranged = async (query, step) => (await ask('query_range', { query, start: now - range, end: now, step })).result;
// As the label values API has them within the time range.
async function labelValues(query, label) {
  const series = await instant(`group by (${label}) (last_over_time(${query}[${range}s]))`);
  return series.map((s) => s.metric[label]).filter(Boolean);
}

// --- Variables

const escapeRegexp = (v) => v.replace(/[\\^$*+?.()|[\]{}]/g, '\\\\$&');
const chosen = Object.fromEntries(dashboard.templating.list.map((v) => [v.name, v.includeAll ? v.allValue : 'prometheus']));
const filtered = flags.var.length > 0; // a choice may well find nothing
for (const assignment of flags.var) {
  const [name, value] = assignment.split(/=(.*)/s);
  if (!(name in chosen)) fault('--var', `no variable ${name}`);
  chosen[name] = escapeRegexp(value);
}

function interpolate(expr, minStep = '15s') {
  const builtin = { __range: `${range}s`, __range_s: String(range), __rate_interval: `${4 * seconds(minStep)}s`, __interval: minStep };
  return expr.replace(/\$(?:\{(\w+)\}|([A-Za-z_]\w*))/g, (all, a, b) => {
    const name = a ?? b;
    if (name in chosen) return chosen[name];
    if (name in builtin) return builtin[name];
    throw new Error(`variable ${all} is not defined`);
  });
}

async function variableOptions(v) {
  if (v.type === 'custom') return v.query.split(',').map((o) => ({ text: o, value: o }));
  const query = interpolate(v.query.query);
  const labels = /^label_values\((.+),\s*(\w+)\)$/.exec(query);
  if (labels) return (await labelValues(labels[1], labels[2])).map((o) => ({ text: o, value: o }));
  const result = /^query_result\((.+)\)$/.exec(query); // as in Grafana, . is no newline
  if (!result) { fault(`variable ${v.name}`, `not understood: ${query}`); return []; }
  const delimiters = /^\/(.*)\/(\w*)$/.exec(v.regex);
  const pattern = new RegExp(delimiters[1], delimiters[2]);
  return (await instant(result[1])).map((s) => {
    const text = `{${Object.entries(s.metric).map(([k, val]) => `${k}="${val}"`).join(',')}} ${s.value[1]} ${s.value[0] * 1000}`;
    const match = pattern.exec(text);
    if (!match) fault(`variable ${v.name}`, `its pattern does not match ${text}`);
    return match?.groups ? { text: match.groups.value, ...match.groups } : { text, value: text };
  });
}

// --- Answers as the frames that Grafana's Prometheus data source makes of them

const number = (v) => (/^[+-]?Inf$/.test(v) ? (v[0] === '-' ? -Infinity : Infinity) : Number(v));
const legend = (format, labels) => format.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, l) => labels[l] ?? '');

function seriesFrame(target, { metric, value, values, histograms }) {
  // Native histograms are made into cells inside Grafana's server: that there are some has to do.
  if (histograms) return { refId: target.refId, native: true, length: histograms.length, fields: [] };
  const points = values ?? [value];
  const name = legend(target.legendFormat ?? '', metric);
  const frame = {
    refId: target.refId, name, length: points.length, meta: {},
    fields: [
      { name: 'Time', type: FieldType.time, config: {}, values: points.map((p) => p[0] * 1000) },
      { name: 'Value', type: FieldType.number, labels: metric, config: { displayNameFromDS: name || undefined }, values: points.map((p) => number(p[1])) },
    ],
  };
  return frame;
}

// One table a target, with a column for each label; the value's name tells the target where there are several.
function tableFrame(target, series, several) {
  const labels = [...new Set(series.flatMap((s) => Object.keys(s.metric).sort()))];
  return {
    refId: target.refId, length: series.length, meta: {},
    fields: [
      { name: 'Time', type: FieldType.time, config: {}, values: series.map((s) => s.value[0] * 1000) },
      ...labels.map((l) => ({ name: l, type: FieldType.string, config: { filterable: true }, values: series.map((s) => s.metric[l] ?? '') })),
      { name: several ? `Value #${target.refId}` : 'Value', type: FieldType.number, config: {}, values: series.map((s) => number(s.value[1])) },
    ],
  };
}

// --- Field options, as the panels know them; an unknown one is a fault

const options = {
  unit: unitOverrideProcessor, min: numberOverrideProcessor, max: numberOverrideProcessor, decimals: numberOverrideProcessor,
  noValue: stringOverrideProcessor, displayName: displayNameOverrideProcessor, color: (v) => v,
  thresholds: thresholdsOverrideProcessor, mappings: valueMappingsOverrideProcessor, links: dataLinksOverrideProcessor,
};
const custom = {
  table: { width: numberOverrideProcessor, minWidth: numberOverrideProcessor, align: stringOverrideProcessor, cellOptions: (v) => v, filterable: booleanOverrideProcessor, inspect: booleanOverrideProcessor, hidden: booleanOverrideProcessor },
};
function registry(type) {
  const item = (id, path, process, isCustom) => ({ id, path, process, isCustom, name: id, override: () => null, editor: () => null, shouldApply: () => true, settings: {} });
  return new Registry(() => [
    ...Object.entries(options).map(([id, process]) => item(id, id, process, false)),
    ...Object.entries(custom[type] ?? {}).map(([id, process]) => item(`custom.${id}`, id, process, true)),
  ]);
}
const units = new Set(getValueFormats().flatMap((g) => g.submenu.map((u) => u.value)));

// --- Links

const used = (text) => [...text.matchAll(/\$\{([^}]+)\}/g)].map((m) => m[1]);
function replacer(where) {
  return (text, scopedVars) => text?.replace(/\$\{([^}]+)\}/g, (all, name) => {
    const { frame, field, rowIndex } = scopedVars?.__dataContext?.value ?? {};
    if (name === '__url_time_range') return `from=now-${flags.range}&to=now`;
    const param = /^(\w+):queryparam$/.exec(name);
    if (param && param[1] in chosen) return `var-${param[1]}=${chosen[param[1]] === '.*' ? '$__all' : chosen[param[1]]}`;
    if (name === '__value.raw' && field) return encodeURIComponent(field.values[rowIndex]);
    const label = /^__field\.labels\.(\w+)$/.exec(name);
    if (label && field?.labels?.[label[1]] !== undefined) return encodeURIComponent(field.labels[label[1]]);
    const column = /^__data\.fields\["(.+)"\]$/.exec(name);
    const other = column && frame?.fields.find((f) => getFieldDisplayName(f, frame) === column[1]);
    if (other) return encodeURIComponent(other.values[rowIndex]);
    fault(where, `link with ${all}, which is not there`);
    return all;
  });
}

// --- Panels

// Labels that a configuration may do without; nothing else may be missing.
const accounts = await labelValues('cohere_up', 'account');
const optional = new Set(accounts.length ? [] : ['account', 'Account']);

async function frames(panel) {
  const several = panel.targets.length > 1;
  const out = [];
  for (const target of panel.targets) {
    const expr = interpolate(target.expr, target.interval ?? '15s');
    if (target.format === 'table') out.push(tableFrame(target, await instant(expr), several));
    else if (target.instant) out.push(...(await instant(expr)).map((s) => seriesFrame(target, s)));
    else out.push(...(await ranged(expr, Math.max(seconds(target.interval ?? '15s'), Math.ceil(range / (panel.maxDataPoints ?? 500))))).map((s) => seriesFrame(target, s)));
  }
  return out;
}

async function transform(panel, data) {
  for (const step of panel.transformations ?? []) {
    const there = new Set(data.flatMap((f) => f.fields.map((field) => field.name)));
    const { excludeByName = {}, indexByName = {}, renameByName = {}, filters = [] } = step.options;
    const named = [...Object.keys({ ...excludeByName, ...indexByName, ...renameByName }), ...filters.map((f) => f.fieldName)];
    for (const name of new Set(named)) {
      if (!there.has(name) && !optional.has(name)) fault(panel.title, `${step.id} names ${name}, but there is only ${[...there].join(', ')}`);
    }
    data = await firstValueFrom(transformDataFrame([step], data));
    if (step.id === 'merge' && data.length > 1) fault(panel.title, 'the tables have no column in common');
  }
  return data;
}

function override(panel, data) {
  const { defaults, overrides } = panel.fieldConfig;
  const known = registry(panel.type);
  const names = new Set(data.flatMap((f) => f.fields.map((field) => getFieldDisplayName(field, f, data))));
  for (const o of overrides) {
    if ((!filtered || panel.type === 'table') && data.length && o.matcher.id === 'byName' && !names.has(o.matcher.options) && !optional.has(o.matcher.options)) {
      fault(panel.title, `an override names ${o.matcher.options}, but there is only ${[...names].join(', ')}`);
    }
    for (const p of o.properties) {
      if (!known.getIfExists(p.id)) fault(panel.title, `an override sets ${p.id}, which a ${panel.type} panel does not have`);
    }
  }
  for (const unit of [defaults.unit, ...overrides.flatMap((o) => o.properties.filter((p) => p.id === 'unit').map((p) => p.value))]) {
    if (unit && !units.has(unit)) fault(panel.title, `unit ${unit} does not exist`);
  }
  return applyFieldOverrides({
    data, theme, timeZone: 'utc', fieldConfig: { defaults: structuredClone(defaults), overrides },
    replaceVariables: replacer(panel.title), fieldConfigRegistry: known,
  });
}

function links(panel, frame) {
  for (const field of frame.fields.filter((f) => f.type !== FieldType.time)) {
    for (const link of field.config.links ?? []) {
      for (let row = 0; row < Math.min(frame.length, 3); row++) {
        const [model] = field.getLinks({ valueRowIndex: row });
        if (!model?.href || used(model.href).length) fault(panel.title, `link ${link.url} becomes ${model?.href}`);
      }
    }
  }
}

// Rows in the order in which the panel sorts them.
function sorted(panel, frame) {
  const rows = [...Array(frame.length).keys()];
  const by = panel.options.sortBy.map(({ displayName, desc }) => {
    const field = frame.fields.find((f) => getFieldDisplayName(f, frame) === displayName);
    if (!field && !optional.has(displayName)) fault(panel.title, `sorted by ${displayName}, which is not there`);
    return { field, sign: desc ? -1 : 1 };
  }).filter(({ field }) => field);
  return rows.sort((a, b) => {
    for (const { field, sign } of by) {
      const [x, y] = [field.values[a], field.values[b]];
      if (x !== y) return sign * (x < y || x == null ? -1 : 1);
    }
    return 0;
  });
}

function printTable(panel, frame) {
  const header = frame.fields.map((f) => getFieldDisplayName(f, frame));
  const numeric = frame.fields.map((f) => f.type === FieldType.number && !f.config.mappings?.length);
  const order = sorted(panel, frame);
  const cells = order.map((row) => frame.fields.map((f) => {
    const v = f.values[row];
    if (v === undefined || v === null) return '';
    return formattedValueToString(f.display(v));
  }));
  const width = header.map((h, i) => Math.max(h.length, ...cells.map((c) => c[i].length)));
  const line = (c) => `  ${c.map((v, i) => (numeric[i] ? v.padStart(width[i]) : v.padEnd(width[i]))).join('  ').trimEnd()}`;
  console.log(line(header));
  for (const c of cells.slice(0, 40)) console.log(line(c));
  if (cells.length > 40) console.log(`  … and ${cells.length - 40} more`);
  for (const [i, f] of frame.fields.entries()) {
    const cell = f.config.custom?.cellOptions?.type;
    if (!cell?.startsWith('color')) continue;
    const colours = new Map(order.filter((r) => f.values[r] != null).map((r, n) => [cells[order.indexOf(r)][i], f.display(f.values[r]).color]));
    console.log(`  ${header[i]}, ${cell.replace('color-', '')}: ${[...colours].slice(0, 8).map(([k, c]) => `${k} ${c}`).join(', ')}`);
  }
}

function printSeries(panel, data) {
  const display = getFieldDisplayValues({
    data, theme, timeZone: 'utc', fieldConfig: panel.fieldConfig, replaceVariables: replacer(panel.title),
    reduceOptions: panel.options.reduceOptions ?? { calcs: ['lastNotNull'], values: false },
  });
  for (const d of display.slice(0, 14)) {
    const title = d.display.title ?? d.name;
    console.log(`  ${title.padEnd(46)} ${formattedValueToString(d.display).padStart(12)}  ${d.display.color ?? ''}`);
  }
  if (display.length > 14) console.log(`  … and ${display.length - 14} more`);
  return display;
}

const read = {};
const empty = [];

for (const v of dashboard.templating.list.filter((v) => v.type !== 'datasource')) {
  const found = await variableOptions(v);
  if (v.hide === 2 && found.length) chosen[v.name] = found[0].value; // nobody chooses it
  console.log(`$${v.name}: All${found.slice(0, 12).map((o) => `, ${o.text}`).join('')}${found.length > 12 ? `, … ${found.length - 12} more` : ''}`);
  if (!found.length && !optional.has(v.name)) fault(`variable ${v.name}`, 'finds nothing');
}
for (const a of dashboard.annotations.list.filter((a) => a.expr)) {
  const found = await ranged(interpolate(a.expr), seconds(a.step));
  console.log(`annotation ${a.name}: ${found.map((s) => `${legend(a.textFormat, s.metric)} at ${dateTime(number(s.values.at(-1)[1])).toISOString()}`).join(', ') || 'none'}`);
}

const queries = { closed: 0, open: 0 };
for (const panel of panels) {
  if (panel.type === 'row') {
    const title = panel.title.replace(/\$(\w+)/g, (_, name) => chosen[name]);
    console.log(`\n=== ${title}${panel.collapsed ? ', collapsed at first' : ''}`);
    continue;
  }
  console.log(`\n${panel.title} (${panel.type})`);
  queries[dashboard.panels.includes(panel) ? 'closed' : 'open'] += panel.targets.length;
  const raw = await frames(panel);
  if (raw.every((f) => f.length === 0)) {
    empty.push(panel.title);
    console.log(`  ${panel.fieldConfig.defaults.noValue ?? 'No data'}`);
    if (!filtered && !flags['may-be-empty'].includes(panel.title)) fault(panel.title, 'has no data');
    continue;
  }
  const data = override(panel, await transform(panel, raw));
  for (const frame of data) links(panel, frame);
  if (panel.type === 'table') {
    printTable(panel, data[0]);
    read[panel.title] = data[0];
  } else if (panel.type === 'heatmap') {
    const native = raw.some((f) => f.native);
    if (native && raw.length > 1) fault(panel.title, 'native and classic buckets mixed');
    if (native) { console.log('  a native histogram'); continue; }
    const les = raw.map((f) => f.name);
    if (les.some((le) => Number.isNaN(number(le)))) fault(panel.title, `rows are no bounds: ${les}`);
    console.log(`  ${les.length} rows, up to ${les.map(number).sort((a, b) => a - b).at(-1)}`);
  } else {
    read[panel.title] = printSeries(panel, data);
  }
}

// --- Nobody is lost or counted twice, however many exporters watch the same jobs

const kinds = [
  { title: 'Embed jobs', family: 'embed_job', id: 'job_id', column: 'Embed job ID' },
  { title: 'Batches', family: 'batch', id: 'batch_id', column: 'Batch ID' },
];
for (const { title, family, id, column } of kinds) {
  const table = read[title];
  if (filtered || !table) continue;
  const watched = (await instant(`group by (account, ${id}) (cohere_${family}_up)`)).length;
  const values = (name) => table.fields.find((f) => getFieldDisplayName(f, table) === name)?.values;
  const keys = values(column).map((value, row) => `${values('Account')?.[row] ?? ''}/${value}`);
  if (keys.length !== watched || new Set(keys).size !== watched) fault(title, `${keys.length} rows, ${new Set(keys).size} different, for ${watched}`);
  const counted = read[`${title} by status`].reduce((sum, d) => sum + d.display.numeric, 0);
  if (counted !== watched) fault(`${title} by status`, `they add up to ${counted} of ${watched}`);
}

if (flags.record) writeFileSync(flags.record, JSON.stringify(recorded));
const asked = dashboard.templating.list.filter((v) => v.type === 'query').length + dashboard.annotations.list.filter((a) => a.expr).length;
console.log(`\n${panels.filter((p) => p.type !== 'row').length} panels, empty: ${empty.join(', ') || 'none'}`);
console.log(`a refresh: ${asked} queries of variables and annotations, ${queries.closed} of panels, ${queries.open} more with every row opened`);
for (const f of faults) console.error(`FAULT ${f}`);
process.exitCode = faults.size ? 1 : 0;
