/**
 * Loaded into a server under test (NODE_OPTIONS=--import): SIGUSR2 collects all garbage and tells resident memory on standard
 * output, as a log line; SIGHUP leaks a megabyte, to see that the test of leaks can see one.
 *
 * Needs --expose-gc.
 */
const leaked: Buffer[] = [];

process.on('SIGUSR2', () => {
  // Twice: what a finaliser frees is gone the second time.
  globalThis.gc?.();
  setImmediate(() => {
    globalThis.gc?.();
    const rssBytes = process.memoryUsage.rss();
    process.stdout.write(`${JSON.stringify({ msg: 'collected', rssBytes, leaked: leaked.length })}\n`);
  });
});

process.on('SIGHUP', () => {
  leaked.push(Buffer.alloc(1024 * 1024, 1));
  process.stdout.write(`${JSON.stringify({ msg: 'leaked', leaked: leaked.length })}\n`);
});
