// Draws one dashboard at one moment:
//
//   ?board=circuits&moment=during&theme=dark
//
// and with &open also what is in its closed rows.
//
// Variables, units, overrides, mappings, thresholds, transformations and the panels that
// Grafana's libraries have are Grafana's. Its panel plugins are not published: the state
// timeline and the heatmap are drawn here, and stand in for them.
import { createRoot } from 'react-dom/client';
import { MemoryRouter } from 'react-router-dom';
import { createTheme, identityOverrideProcessor, standardFieldConfigEditorRegistry, standardTransformers, standardTransformersRegistry, ThemeContext } from '@grafana/data';
import { config, setDataSourceSrv, setPluginImportUtils, setRunRequest, setTemplateSrv } from '@grafana/runtime';
import { initPluginTranslations } from '@grafana/i18n';
import { GlobalStyles } from '@grafana/ui';
import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';
import '@fontsource/roboto-mono/400.css';

import { Datasource, runRequest } from './datasource.js';
import { plugins } from './panels.jsx';
import { Board } from './board.jsx';

const asked = new URLSearchParams(location.search);
const theme = createTheme({ colors: { mode: asked.get('theme') ?? 'dark' } });

async function main() {
  config.theme2 = theme;
  config.bootData ??= {};
  config.featureToggles ??= {};
  await initPluginTranslations('preview').catch(() => {});
  const moments = await (await fetch('./moments')).json();
  const board = await (await fetch(`./dashboards/${asked.get('board') ?? 'circuits'}.json`)).json();
  const to = moments.moments[asked.get('moment') ?? 'during'];
  const from = Math.max(moments.from, to - 15 * 60 * 1000);

  const datasource = new Datasource();
  setDataSourceSrv({
    get: async () => datasource,
    getInstanceSettings: () => datasource.instanceSettings,
    getList: () => [datasource.instanceSettings],
    reload: () => {},
  });
  setRunRequest(runRequest);
  setTemplateSrv({ replace: (s) => s, getVariables: () => [], containsTemplate: () => false, updateTimeRange: () => {} });
  setPluginImportUtils({
    importPanelPlugin: async (id) => plugins[id],
    getPanelPluginFromCache: (id) => plugins[id],
  });
  // The options that every field has. Grafana's own list comes with editors, for which
  // nobody is here.
  standardFieldConfigEditorRegistry.setInit(() =>
    ['displayName', 'unit', 'min', 'max', 'decimals', 'color', 'thresholds', 'mappings', 'noValue', 'links'].map((id) => ({
      id, path: id, name: id, editor: () => null, override: () => null, process: identityOverrideProcessor, shouldApply: () => true,
    }))
  );
  standardTransformersRegistry.setInit(() =>
    [...new Map(Object.values(standardTransformers).map((t) => [t.id, t])).values()].map((t) => ({ id: t.id, name: t.name, transformation: async () => t, editor: () => null }))
  );

  document.body.style.background = theme.colors.background.canvas;
  document.body.classList.add(theme.isDark ? 'theme-dark' : 'theme-light');
  createRoot(document.getElementById('root')).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <MemoryRouter>
        <Board board={board} from={from} to={to} datasource={datasource} open={asked.has('open')} />
      </MemoryRouter>
    </ThemeContext.Provider>
  );
}

main().catch((e) => {
  document.body.append(String(e.stack ?? e));
  console.error(e);
});
