/**
 * What TorchServe's clients send as a body: for a handler the body as it came, for any other model what can be read of it.
 *
 * In      bytes and their content type; curl's `-T` sends none, and its `-d` calls everything a form
 * Out     ContentBody of a handler; of other models JSON where it is some, arrays of NumPy, else the whole text
 * Limits  the body limit of the server; form-fields.ts
 * Errors  InvalidInput: neither JSON nor text
 * Source  TorchServe's request parsing
 */
import { isUtf8 } from 'node:buffer';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { InvalidInput } from '../../../requests/invalid-input.js';
import { addBodyReader } from '../../bodies/body-reader.js';
import { formFieldsOf } from '../../bodies/form-fields.js';
import { jsonBodyParser } from '../../bodies/json-body.js';

/** Text that is no JSON: the prompt of a language model. */
export class TextBody {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** Fields of a form that hold the payload, the first that is there. */
const PAYLOAD_FIELDS = ['data', 'body', 'inputs', 'prompt', 'text'];
const FORM = 'application/x-www-form-urlencoded';
const NAMED_FIELD = new RegExp(`^(?:${PAYLOAD_FIELDS.join('|')})=`);

/** @param isContent its model reads the body by itself */
export function addPredictionParsers(
  app: FastifyInstance,
  isContent: (request: FastifyRequest) => boolean,
): void {
  const parseJson = jsonBodyParser(app);
  addBodyReader(app, {
    isContent,
    plain: (request, { bytes, contentType, type }, done) => {
      const whole = (): void => {
        if (!isUtf8(bytes)) done(new InvalidInput('The body must be JSON, or text in UTF-8', null));
        else readText(bytes.toString('utf8'));
      };
      const readText = (text: string): void => {
        if (type.includes('json') || /^\s*[[{]/.test(text)) parseJson(request, text, done);
        else done(null, new TextBody(text));
      };
      const isForm =
        type === 'multipart/form-data' ||
        (type === FORM && NAMED_FIELD.test(bytes.toString('latin1', 0, 16)));
      if (!isForm) {
        whole();
        return;
      }
      formFieldsOf(bytes, contentType).then((fields) => {
        const name = PAYLOAD_FIELDS.find((one) => fields.has(one)) ?? [...fields.keys()][0];
        if (name === undefined) done(new InvalidInput('The form has no field', null));
        else readText(fields.get(name)!);
      }, done);
    },
  });
}
