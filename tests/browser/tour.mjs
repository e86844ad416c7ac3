// The way of a user through a front end: run all, watch, stop, restart, complete, inspect, answer, reload.
import { check, quickstart } from './front_end.mjs';

const LONG = '%fit Mlp data --epochs 100000 --seed 1 --restart';

await quickstart(async (front, step) => {
  const { page } = front;

  step('highlighting');
  // The colour of a keyword differs from that of a name, and so does a number's: the editor takes the cell for Rust.
  const colours = await page.evaluate(() => {
    const of = (text) => {
      const spans = [...document.querySelectorAll('.jp-CodeCell .cm-line span')];
      const span = spans.find((span) => span.textContent === text);
      return span && getComputedStyle(span).color;
    };
    return { let: of('let'), number: of('16.0'), string: of('"data/digits.csv.gz"'), line: getComputedStyle(document.querySelector('.cm-line')).color };
  });
  check(colours.let && colours.number && colours.string, `no highlighting: ${JSON.stringify(colours)}`);
  check(new Set(Object.values(colours)).size === 4, `colours are the same: ${JSON.stringify(colours)}`);

  step('run all');
  await front.menu('Run', 'Run All Cells');
  const fit = front.cells().filter({ hasText: '%fit Mlp data' }).first();
  await front.frames(fit, 3);
  await fit.scrollIntoViewIfNeeded();
  await front.shot('training');
  await front.cells().filter({ hasText: 'test accuracy' }).locator('.jp-OutputArea-output', { hasText: /test accuracy \d/ }).waitFor();
  await front.idle();
  await fit.scrollIntoViewIfNeeded();
  await front.shot('trained');
  check((await fit.locator('.jp-OutputArea-output').count()) === 1, 'the run has more than one output');
  await front.cells().first().scrollIntoViewIfNeeded();
  await front.shot('top');

  step('complete');
  await front.type('let zeros = Tensor::zero');
  await front.complete('zeros');
  await front.shot('complete');
  await page.keyboard.press('Escape');
  await page.keyboard.press('Control+a');
  await page.keyboard.insertText('%fit Mlp data --gradient-clip-');
  await front.complete('--gradient-clip-algorithm');
  await page.keyboard.press('Escape');

  step('inspect');
  await page.keyboard.press('Control+a');
  await page.keyboard.insertText('Tensor::zeros');
  await page.keyboard.press('Shift+Tab');
  await page.locator('.jp-Tooltip', { hasText: 'zeros' }).waitFor();
  await front.shot('inspect');
  await page.keyboard.press('Escape');

  step('answer');
  const asking = await front.type('let mut word = String::new();\nprint!("Your name? ");\nstd::io::stdin().read_line(&mut word)?;\nformat!("hello {}", word.trim())');
  await front.run();
  const box = asking.locator('.jp-Stdin-input');
  await box.waitFor();
  // What it asks is to be seen before it is answered, though `print!` ends no line.
  await asking.locator('.jp-OutputArea-output', { hasText: 'Your name?' }).waitFor();
  await box.scrollIntoViewIfNeeded();
  await front.shot('question');
  await box.fill('Ferris');
  await box.press('Enter');
  await asking.locator('.jp-OutputArea-output', { hasText: 'hello Ferris' }).waitFor();

  step('stop');
  const long = await front.type(LONG);
  await front.run();
  await front.frames(long, 3);
  await front.stop();
  await long.locator('.jp-OutputArea-output', { hasText: /stopped: \d/ }).waitFor();
  await front.idle();
  await long.scrollIntoViewIfNeeded();
  await front.shot('stopped');
  await front.result('!fit.step_losses.is_empty()', 'true');

  step('dark');
  await page.evaluate(() => window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' }));
  await page.waitForSelector('body[data-jp-theme-light="false"]', { state: 'attached' });
  await fit.scrollIntoViewIfNeeded();
  await front.shot('dark');

  step('reload in the middle of a run');
  const again = await front.type(LONG);
  await front.run();
  await front.frames(again, 2);
  await page.keyboard.press('Control+s');
  await page.reload();
  await page.locator('.jp-NotebookPanel .jp-CodeCell .cm-content').filter({ visible: true }).first().waitFor();
  await front.state('busy');
  // The page has lost what the run showed; from here on it is there again, and goes on.
  const joined = await front.type('%fit --attach');
  await front.run();
  await front.frames(joined, 3);
  await joined.scrollIntoViewIfNeeded();
  await front.shot('reloaded');

  step('the panel of devices beside it');
  const panel = await front.type('%gpu watch');
  await front.run();
  await front.frames(panel, 3);
  await panel.locator('.jp-OutputArea-output svg polyline').first().waitFor({ state: 'attached' });
  await panel.scrollIntoViewIfNeeded();
  await front.shot('watching');
  await front.result('%gpu watch stop', 'the panel stands still');
  await front.stop();
  await joined.locator('.jp-OutputArea-output', { hasText: /stopped: \d/ }).waitFor();
  await front.idle();
  await front.result('!fit.step_losses.is_empty()', 'true');

  step('restart');
  await front.menu('Kernel', 'Restart Kernel…');
  await page.locator('.jp-Dialog .jp-mod-accept').click();
  await front.idle();
  const gone = await front.type('fit.history.len()');
  await front.run();
  await gone.locator('.jp-OutputArea-output', { hasText: 'fit' }).first().waitFor();
  await gone.scrollIntoViewIfNeeded();
  await front.shot('restarted');
});
