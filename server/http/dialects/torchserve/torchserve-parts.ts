/** What TorchServe's dialects need besides what all dialects share. Made by the program that starts the server. */
import type { TokenKind } from '../../../access/token-file.js';
import type { TorchServeConfig } from '../../../config/torchserve/torchserve-config.js';
import type { ArchiveManifest } from '../../../model-store/archive-manifest.js';

/** Where a model came from, as its registration said. */
export interface ModelRecord {
  /** File, folder or URL as given. */
  readonly url: string;
  readonly runtime: string;
}

export interface Tokens {
  isApiKey(given: string): boolean;
  renew(kind: TokenKind): void;
}

export interface TorchServeParts {
  readonly config: TorchServeConfig;
  readonly modelStore: string;
  /** null: none are asked for. */
  readonly tokens: Tokens | null;
  /** What the archive, folder or URL says of itself. @throws ServingError */
  manifestOf(url: string): Promise<ArchiveManifest>;
  /** Bytes that a process holds; null: it is gone. */
  residentBytes(pid: number): number | null;
  /** A model was registered, scaled, unregistered or made the default one. */
  onChange(): void;
}
