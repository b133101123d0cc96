/**
 * The bounds that more than one program relies on. Everything that grows is bounded here or by a configuration key.
 *
 * A bound that a user may move is a row of the key table (server/config/key-table.ts), not a constant here.
 */

/** Ranks in one group; the mesh of sockets grows with its square. */
export const MAX_WORLD_SIZE = 64;

/** Version of the shard layout on disk. Shards of another version are made again. */
export const MANIFEST_FORMAT_VERSION = 9;

/** Version of the messages between coordinator and shard workers (proto/control.proto). */
export const CONTROL_VERSION = 3;

/** Tokens in one step, over all its rows: the activation buffers are reserved for so many. */
export const MAX_STEP_TOKENS = 4096;

/** Prompt tokens of a rank's warm-up, where a slot has room for them; one token more follows. */
export const WARM_UP_TOKENS = 32;

/** Rows (sequences) in one step, and slots of one group. */
export const MAX_SLOTS = 1024;

/** Bytes of one frame on the control channel; a longer one is refused unread. */
export const MAX_CONTROL_FRAME_BYTES = 64 * 1024 * 1024;

/** Candidates a rank offers for one row before the whole row is gathered. */
export const MAX_CANDIDATES = 256;

/** Largest number of alternatives a request may ask log-probabilities of. */
export const MAX_TOP_LOGPROBS = 20;

/** JSON header of a safetensors file (the reference reader's own limit, 100 MB). */
export const MAX_SAFETENSORS_HEADER_BYTES = 100_000_000;

/** Any JSON configuration file of a checkpoint except the tokenizer. */
export const MAX_CONFIG_FILE_BYTES = 16 * 1024 * 1024;

/** A stranger's YAML, of which a byte becomes some hundreds while it is read; those in use have a few thousand. */
export const MAX_YAML_BYTES = 256 * 1024;
