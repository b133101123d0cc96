/**
 * The page as a picture and as a PDF, by a browser that is there.
 *
 * In      the page's path
 * Out     report.png and report.pdf beside it, and what the page's console said; null: there is no browser
 * Limits  LIMIT_MS a call; a profile of its own in the temporary folder, removed at the end
 * Errors  none: a browser that fails leaves no file, and that is said
 */
import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const NAMES = [
  'chromium',
  'chromium-browser',
  'google-chrome',
  'google-chrome-stable',
  'chrome',
  'microsoft-edge',
];
const LIMIT_MS = 60_000;
const SIZE = '1360,2000';

export interface Pictures {
  files: string[];
  /** Lines of the console, errors and refused requests among them; empty: it was silent. */
  console: string[];
}

export function findBrowser(): string | null {
  const given = process.env.CHROME_PATH;
  const folders = (process.env.PATH ?? '').split(path.delimiter);
  const all = [
    ...(given ? [given] : []),
    ...folders.flatMap((folder) => NAMES.map((name) => path.join(folder, name))),
  ];
  return all.find(isProgram) ?? null;
}

export async function browserPictures(page: string): Promise<Pictures | null> {
  const browser = findBrowser();
  if (browser === null) return null;
  const profile = mkdtempSync(path.join(tmpdir(), 'shardserve-report-'));
  const url = pathToFileURL(path.resolve(page)).href;
  const base = path.resolve(page).replace(/\.html$/, '');
  try {
    const said = await run(browser, profile, [`--screenshot=${base}.png`, `--window-size=${SIZE}`, url]);
    await run(browser, profile, [`--print-to-pdf=${base}.pdf`, '--no-pdf-header-footer', url]);
    const console = said
      .split('\n')
      .filter((line) => line.includes(':CONSOLE') || /Refused to|net::ERR/.test(line));
    return { files: [`${base}.png`, `${base}.pdf`].filter((file) => existsSync(file)), console };
  } finally {
    rmSync(profile, { recursive: true, force: true });
  }
}

function run(browser: string, profile: string, more: readonly string[]): Promise<string> {
  const args = [
    ...[
      '--headless',
      '--disable-gpu',
      '--hide-scrollbars',
      '--no-first-run',
      '--disable-background-networking',
    ],
    ...['--enable-logging=stderr', '--virtual-time-budget=5000', `--user-data-dir=${profile}`],
    // Chromium's own sandbox refuses to run as root; the page is ours and may ask nothing.
    ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
  ];
  return new Promise((resolve) => {
    execFile(browser, [...args, ...more], { timeout: LIMIT_MS }, (_error, stdout, stderr) =>
      resolve(`${stdout}\n${stderr}`),
    );
  });
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
