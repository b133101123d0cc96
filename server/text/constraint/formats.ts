/**
 * JSON Schema's formats as regular expressions: a part of what each allows, so that what is written is always valid.
 *
 * In      name of a format
 * Out     source of a pattern of the whole text; null: not known
 * Source  JSON Schema validation 2020-12, §7.3; RFC 3339, 5321, 1123, 4122, 4291, 3986
 */
const YEAR = '(?:19|20)\\d\\d';
const LEAP = '(?:(?:19|20)(?:0[48]|[2468][048]|[13579][26])|2000)';
const DATE = `(?:${YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))|${LEAP}-02-29)`;
const CLOCK = '(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,9})?';
const ZONE = '(?:Z|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)';
const BYTE = '(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)';
const LABEL = '[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?';
const HOST = `${LABEL}(?:\\.${LABEL}){0,3}`;
const SEGMENT = '[A-Za-z0-9._~-]{0,64}';

const FORMATS: Readonly<Record<string, string>> = {
  date: DATE,
  time: `${CLOCK}${ZONE}`,
  'date-time': `${DATE}T${CLOCK}${ZONE}`,
  duration:
    'P(?:\\d{1,9}W|\\d{1,9}D(?:T\\d{1,9}H)?|\\d{1,9}Y(?:\\d{1,9}M(?:\\d{1,9}D)?)?|\\d{1,9}M(?:\\d{1,9}D)?|T(?:\\d{1,9}H(?:\\d{1,9}M(?:\\d{1,9}S)?)?|\\d{1,9}M(?:\\d{1,9}S)?|\\d{1,9}S))',
  email: `[A-Za-z0-9](?:[A-Za-z0-9_+-]{0,30}[A-Za-z0-9])?(?:\\.[A-Za-z0-9]{1,16}){0,2}@${LABEL}(?:\\.${LABEL}){1,3}`,
  hostname: HOST,
  ipv4: `${BYTE}\\.${BYTE}\\.${BYTE}\\.${BYTE}`,
  ipv6: '(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|::1|::',
  uuid: '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}',
  uri: `https?://${HOST}(?::[1-9]\\d{0,3})?(?:/${SEGMENT}){0,8}(?:\\?[A-Za-z0-9._~=&-]{0,64})?`,
};

/** The names, for messages. */
export const FORMAT_NAMES = Object.keys(FORMATS);

export const formatPattern = (name: string): string | null =>
  Object.hasOwn(FORMATS, name) ? FORMATS[name]! : null;
