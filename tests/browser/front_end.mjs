// A notebook in a front end, driven as a user does: menus, keys, the mouse. Nothing here waits for a time to pass, only for
// what is to be seen; every wait has a limit that only a hang reaches.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const LIMIT = 240_000;

/** A word of the environment that the Rust test sets. */
export function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run these tests with \`cargo selftest\``);
  return value;
}

const { chromium } = createRequire(join(required('LIGHTCELL_TEST_BROWSER'), 'index.js'))('playwright-core');

export class FrontEnd {
  /** `name` is how screenshots are called, `path` what stands before a notebook's name in the address. */
  static async open({ name, path, notebook }) {
    const browser = await chromium.launchPersistentContext(join(required('LIGHTCELL_TEST_FOLDER'), `profile-${name}`), {
      executablePath: required('LIGHTCELL_TEST_CHROMIUM'),
      headless: true,
      viewport: { width: 1100, height: 900 },
      args: [
        '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
        '--disable-component-update', '--disable-sync',
      ],
    });
    const page = browser.pages()[0] ?? (await browser.newPage());
    page.setDefaultTimeout(LIMIT);
    const front = new FrontEnd();
    Object.assign(front, { browser, page, name, count: 0 });
    page.on('dialog', (dialog) => dialog.accept());
    const [server, token] = [required('LIGHTCELL_TEST_SERVER'), required('LIGHTCELL_TEST_TOKEN')];
    await page.goto(`${server}/${path}/${notebook}?token=${token}`);
    await front.ready();
    return front;
  }

  /** The notebook is open and its kernel waits. */
  async ready() {
    await this.page.locator('.jp-NotebookPanel .jp-CodeCell .cm-line span', { hasText: /^let$/ }).first().waitFor();
    await this.idle();
  }

  /** The kernel's state, as the front end has heard of it and as its toolbar shows it. */
  async state(state) {
    await this.page.waitForFunction(
      (state) => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === state,
      state,
    );
    await this.page.waitForSelector(`.jp-NotebookPanel .jp-Notebook-ExecutionIndicator[data-status="${state}"]`);
  }

  idle() {
    return this.state('idle');
  }

  /** Chooses from the menu bar: the menu, then the text its item begins with. */
  async menu(menu, item) {
    await this.page.locator('.lm-MenuBar-itemLabel', { hasText: new RegExp(`^${menu}$`) }).click();
    await this.page.locator('.lm-Menu-itemLabel', { hasText: item }).first().click();
  }

  /** Opens a new cell at the end and types into it. */
  async type(code) {
    await this.page.evaluate(() => document.activeElement?.blur?.());
    const before = await this.page.evaluate(() => window.jupyterapp.shell.currentWidget.content.widgets.length);
    // On a busy machine the new cell comes later than the click returns, and a notebook that is being laid out may miss the
    // click. The name stays with the cell when others follow.
    const name = `typed-${this.count++}`;
    const there = ([before, name]) => {
      const { content } = window.jupyterapp.shell.currentWidget;
      const cell = content.widgets.at(-1);
      if (content.widgets.length <= before || content.activeCell !== cell || !cell.isAttached) return false;
      cell.node.setAttribute('data-typed', name);
      return true;
    };
    for (const end = Date.now() + LIMIT; ; ) {
      await this.page.locator('.jp-Notebook-footer').click();
      try {
        await this.page.waitForFunction(there, [before, name], { timeout: 20_000 });
        break;
      } catch (error) {
        if (Date.now() > end) throw error;
      }
    }
    const cell = this.page.locator(`[data-typed="${name}"]`);
    await cell.locator('.cm-content').click();
    // Typed keys would be completed with closing brackets.
    await this.page.keyboard.insertText(code);
    return cell;
  }

  /** Presses Tab until a completion is offered: the front end gives up on a kernel that needs more than a second. */
  async complete(text) {
    for (const end = Date.now() + LIMIT; ; ) {
      await this.page.keyboard.press('Tab');
      try {
        return await this.page.locator('.jp-Completer', { hasText: text }).waitFor({ timeout: 10_000 });
      } catch (error) {
        if (Date.now() > end) throw error;
      }
    }
  }

  cells() {
    return this.page.locator('.jp-NotebookPanel .jp-CodeCell');
  }

  /** Runs the cell that was typed. */
  run() {
    return this.page.keyboard.press('Control+Enter');
  }

  /** Types a cell, runs it and waits for a text among its outputs. */
  async result(code, text) {
    const cell = await this.type(code);
    await this.run();
    await cell.locator('.jp-OutputArea-output', { hasText: text }).first().waitFor();
    return cell;
  }

  /** The stop button of the toolbar. */
  async stop() {
    await this.page.locator('[data-command="notebook:interrupt-kernel"], [data-jp-item-name="interrupt"]').first().click();
  }

  /** Waits until a cell's plot has been seen in so many different states. */
  async frames(cell, wanted) {
    const id = `frames-${this.count++}`;
    await cell.evaluate(
      (node, [id, wanted]) => {
        const seen = new Set();
        const look = () => {
          const svg = node.querySelector('.jp-OutputArea-output svg polyline, .jp-OutputArea-output svg path');
          const all = node.querySelector('.jp-OutputArea-output svg');
          if (svg && all) seen.add(all.innerHTML);
          node.setAttribute('data-frames', seen.size);
          if (seen.size >= wanted) node.setAttribute('data-seen', id);
        };
        new MutationObserver(look).observe(node, { childList: true, subtree: true, characterData: true });
        look();
      },
      [id, wanted],
    );
    await this.page.waitForSelector(`[data-seen="${id}"]`, { state: 'attached' });
  }

  async shot(what) {
    const file = join(required('LIGHTCELL_TEST_SCREENSHOTS'), `${this.name}-${what}.png`);
    await this.page.screenshot({ path: file });
  }

  close() {
    return this.browser.close();
  }
}

export function check(condition, what) {
  if (!condition) throw new Error(what);
}

/** Opens the quickstart in the front end that the Rust test names and takes these steps; a failure leaves a screenshot. */
export async function quickstart(steps) {
  const front = await FrontEnd.open({
    name: required('LIGHTCELL_TEST_FRONT_END'),
    path: required('LIGHTCELL_TEST_PATH'),
    notebook: 'quickstart.ipynb',
  });
  const step = (text) => console.log(`${new Date().toISOString().slice(11, 23)} ${text}`);
  try {
    await steps(front, step);
    step('done');
  } catch (error) {
    await front.shot('failed').catch(() => {});
    console.error(error);
    process.exitCode = 1;
  } finally {
    await front.close();
  }
}
