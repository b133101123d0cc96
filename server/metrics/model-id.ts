/** A model as DJLServing's metrics and messages call it: its name, and its version where it has one. */
export const modelIdOf = ({ name, version }: { name: string; version: string | null }): string =>
  version ? `${name}:${version}` : name;
