/**
 * The command that turns a pickled checkpoint into safetensors, for its owner to paste into a shell.
 *
 * In      a model folder, whatever it is called; the names in it
 * Out     one line of bash (zsh and ksh read it alike), or null when the pickles are not in Hugging Face's files
 *
 * It writes the tensors under their own names and in their own types, and nothing else: no class of the model is needed, and neither
 * config.json nor the tokenizer is touched, so it is right for encoders as for decoders. It needs the packages torch and safetensors.
 *
 * The folder is an argument of the program, never a part of it. The program has no quotation mark and no backslash: the line may be
 * copied out of a JSON log, where those are escaped.
 */
import { resolve } from 'node:path';

const SINGLE_FILE = 'pytorch_model.bin';
const MANY_FILES = 'pytorch_model-*.bin';

// A clone, since safetensors refuses tensors that share memory (tied embeddings).
const LOAD =
  '{name: t.contiguous().clone() for name, t in torch.load(file, map_location=cpu, weights_only=True).items()}';

/** `words` stand behind the folder as arguments: so the program needs no quotation marks. */
const SINGLE = {
  program:
    'import os, sys, torch; from safetensors.torch import save_file; folder, file, out, cpu, pt = sys.argv[1:]; ' +
    `os.chdir(folder); save_file(${LOAD}, out, dict(format=pt))`,
  words: `${SINGLE_FILE} model.safetensors cpu pt`,
};
const MANY = {
  program:
    'import glob, json, os, sys, torch; from safetensors.torch import save_file; ' +
    'folder, pattern, end, index, cpu, pt, w = sys.argv[1:]; os.chdir(folder); place = {}; ' +
    '[(save_file(tensors, out, dict(format=pt)), place.update(dict.fromkeys(tensors, out))) for file in sorted(glob.glob(pattern)) ' +
    `for out in [file[:-4] + end] for tensors in [${LOAD}]]; json.dump(dict(metadata={}, weight_map=place), open(index, w))`,
  words: `'${MANY_FILES}' .safetensors model.safetensors.index.json cpu pt w`,
};

/** @param names what the folder holds */
export function convertCommand(folder: string, names: readonly string[]): string | null {
  const many = names.some((name) => /^pytorch_model-.*\.bin$/.test(name));
  if (!many && !names.includes(SINGLE_FILE)) return null;
  const { program, words } = names.includes(SINGLE_FILE) ? SINGLE : MANY;
  return `python3 -c '${program}' ${shellWord(resolve(folder))} ${words}`;
}

/**
 * One word of bash that is exactly `text`: bare; in single quotes; or as $'…' with every character but the plainest by its bytes, three
 * octal digits each, so that no quote, backslash, line break or terminal control of the name stands in the line.
 */
export function shellWord(text: string): string {
  if (/^[\w/.,:=@%+-]+$/.test(text)) return text;
  if (/^[\p{L}\p{N} \w/.,:;=@%+~#&|<>(){}[\]*?^-]+$/u.test(text)) return `'${text}'`;
  const bytes = Array.from(Buffer.from(text, 'utf8'), (byte) => {
    const character = String.fromCharCode(byte);
    return /[\w/.,:=@%+ -]/.test(character) ? character : `\\${byte.toString(8).padStart(3, '0')}`;
  });
  return `$'${bytes.join('')}'`;
}
