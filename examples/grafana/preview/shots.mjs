// Takes the pictures of the dashboards: node shots.mjs SERVER PAGE FOLDER [PART [MORE]]
//
// SERVER is the program in the folder server, PAGE the folder with the built page and the
// recording. Each board is drawn during and after the outage, in both themes, or those
// with PART in their names; MORE is added to the address of the page.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import puppeteer from 'puppeteer-core';

const [, , program, site, folder, only = '', more = ''] = process.argv;
const chromium = process.env.BREAKWATER_CHROMIUM ?? '/usr/bin/chromium';
mkdirSync(folder, { recursive: true });
const server = spawn(resolve(program), ['-recording', join(site, 'recording.json'), '-page', site], { stdio: ['ignore', 'pipe', 'inherit'] });
server.on('exit', (code) => code && (console.error(`the server ended with ${code}`), process.exit(1)));
const [line] = await once(server.stdout, 'data');
const address = String(line).trim();
const browser = await puppeteer.launch({ executablePath: chromium, headless: true, args: ['--no-sandbox', '--disable-gpu', '--font-render-hinting=none'] });
let failures = 0;
try {
  for (const board of ['circuits', 'retries']) {
    for (const moment of ['during', 'after']) {
      for (const theme of ['dark', 'light']) {
        const name = `${board}-${moment}-${theme}`;
        if (!name.includes(only)) {
          continue;
        }
        const page = await browser.newPage();
        const problems = [];
        page.on('pageerror', (e) => problems.push(e.message));
        page.on('console', (m) => m.type() === 'error' && problems.push(m.text()));
        await page.setViewport({ width: 1600, height: 3400, deviceScaleFactor: 1 });
        await page.goto(`${address}/?board=${board}&moment=${moment}&theme=${theme}${more}`);
        try {
          await page.waitForSelector('body[data-drawn=yes]', { timeout: 60_000 });
        } catch (e) {
          problems.push(e.message);
          failures++;
        }
        await new Promise((resolve) => setTimeout(resolve, 1500)); // what sizes itself has done so
        const height = await page.evaluate(() => Math.ceil(document.getElementById('root').getBoundingClientRect().height));
        await page.screenshot({ path: join(folder, `${name}.webp`), type: 'webp', quality: 80, clip: { x: 0, y: 0, width: 1600, height } });
        console.log(`${name}.webp, 1600 x ${height}${problems.length ? `, ${problems.length} complaints: ${[...new Set(problems)].slice(0, 3).join('; ').slice(0, 600)}` : ''}`);
        await page.close();
      }
    }
  }
} finally {
  await browser.close();
  server.kill();
}
process.exit(failures ? 1 : 0);
