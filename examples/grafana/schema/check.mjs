// Checks dashboards against the types that Grafana publishes: no key that Grafana does
// not know, no value that it does not take. It does not know what a panel makes of it.
//
//   node check.mjs FOLDER
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import Ajv from 'ajv';
import { createGenerator } from 'ts-json-schema-generator';

const here = import.meta.dirname ?? new URL('.', import.meta.url).pathname;
const generator = createGenerator({
  path: join(here, 'types.ts'),
  tsconfig: join(here, 'tsconfig.json'),
  expose: 'none',
  additionalProperties: false,
});
const ajv = new Ajv({ allErrors: true, strict: false, verbose: true });
const validators = new Map();

/** Returns what is wrong with a value, as lines. */
function problems(type, value) {
  if (!validators.has(type)) {
    validators.set(type, ajv.compile(generator.createSchema(type)));
  }
  const validate = validators.get(type);
  if (validate(value)) {
    return [];
  }
  return validate.errors.map((e) => {
    const wanted = e.params.additionalProperty ?? e.params.allowedValues ?? e.params.allowedValue;
    const got = e.keyword === 'additionalProperties' ? '' : `, got ${JSON.stringify(e.data)?.slice(0, 60)}`;
    return `${e.instancePath || '/'}: ${e.message}${wanted === undefined ? '' : ` (${JSON.stringify(wanted)})`}${got}`;
  });
}

const types = { heatmap: 'Heatmap', row: 'Row', stat: 'Stat', 'state-timeline': 'StateTimeline', table: 'Table', timeseries: 'TimeSeries' };

function panelProblems(panel) {
  const type = types[panel.type];
  if (!type) {
    return [`type ${JSON.stringify(panel.type)} is not one of ${Object.keys(types).join(', ')}`];
  }
  const found = problems(type, panel);
  for (const override of panel.fieldConfig?.overrides ?? []) {
    // An override is a list of paths and values: what it makes of a field is checked.
    const field = structuredClone(panel.fieldConfig.defaults);
    for (const { id, value } of override.properties) {
      const path = id.split('.');
      let at = field;
      for (const key of path.slice(0, -1)) {
        at = at[key] ??= {};
      }
      at[path.at(-1)] = value;
    }
    for (const p of problems(`${type}Field`, field)) {
      found.push(`override ${JSON.stringify(override.matcher.options)} ${p}`);
    }
  }
  return found;
}

const folder = process.argv[2];
const files = readdirSync(folder).filter((name) => name.endsWith('.json'));
if (files.length === 0) {
  console.error(`there is no dashboard in ${folder}`);
  process.exit(1);
}
let failures = 0;
for (const file of files) {
  const dashboard = JSON.parse(readFileSync(join(folder, file), 'utf8'));
  const found = problems('Dashboard', dashboard);
  const panels = (dashboard.panels ?? []).flatMap((p) => [p.type === 'row' ? { ...p, panels: [] } : p, ...(p.panels ?? [])]);
  for (const panel of panels) {
    found.push(...panelProblems(panel).map((p) => `${panel.type} "${panel.title}" ${p}`));
  }
  for (const p of found) {
    console.error(`${file}: ${p}`);
  }
  failures += found.length;
  console.log(`${file}: ${panels.length} panels, ${found.length ? `${found.length} problems` : 'as @grafana/schema has them'}`);
}
process.exit(failures ? 1 : 0);
