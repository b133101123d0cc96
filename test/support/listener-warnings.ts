/** What Node says of too many listeners while something is done. */
export async function listenerWarnings(act: () => Promise<unknown>): Promise<string[]> {
  const warnings: Error[] = [];
  const onWarning = (warning: Error): number => warnings.push(warning);
  process.on('warning', onWarning);
  try {
    await act();
    // Node tells a warning in a later turn.
    await new Promise((resolve) => setImmediate(resolve));
  } finally {
    process.off('warning', onWarning);
  }
  return warnings.flatMap(({ message, name }) => (name === 'MaxListenersExceededWarning' ? [message] : []));
}
