// JupyterLab with a kernel on another machine: started as any, by the notebook that names it, through the quickstart.
import { join } from 'node:path';
import { check, quickstart, required } from './front_end.mjs';

await quickstart(async (front, step) => {
  const { page } = front;
  await page.locator('.jp-NotebookPanel', { hasText: 'Rust on gpu' }).first().waitFor();

  step('run all');
  await front.menu('Run', 'Run All Cells');
  const fit = front.cells().filter({ hasText: '%fit Mlp data' }).first();
  await front.frames(fit, 3);
  await front.cells().filter({ hasText: 'test accuracy' }).locator('.jp-OutputArea-output', { hasText: /test accuracy \d/ }).waitFor();
  await front.idle();
  await fit.scrollIntoViewIfNeeded();
  await front.shot('trained');
  await front.cells().filter({ hasText: '%upload' }).locator('.jp-OutputArea-output', { hasText: 'SHA-256' }).waitFor();

  step('stop');
  // It is the other machine's home, and the stop button reaches it.
  await front.result('std::env::current_dir()?', join(required('LIGHTCELL_TEST_FOLDER'), 'home'));
  const endless = await front.type('println!("on"); loop { std::thread::sleep(std::time::Duration::from_millis(50)); }');
  await front.run();
  await endless.locator('.jp-OutputArea-output', { hasText: 'on' }).first().waitFor();
  await front.stop();
  await endless.locator('.jp-OutputArea-output', { hasText: 'Interrupted' }).first().waitFor();
  await front.idle();

  step('restart');
  await front.menu('Kernel', 'Restart Kernel…');
  await page.locator('.jp-Dialog .jp-mod-accept').click();
  await front.idle();
  await front.result('6 * 7', '42');
  check((await front.cells().filter({ hasText: '%upload' }).count()) === 1, 'the notebook is another');
});
