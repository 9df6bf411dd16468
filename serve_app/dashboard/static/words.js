// Words in the viewer's language, and numbers and times as that language writes them.
let words = {};
let language = 'en';

const kept = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
export function keep(name, value) { try { localStorage.setItem(name, value); } catch { /* for this page only */ } }

export async function load(wanted) {
  language = wanted || kept('language') || (navigator.language.startsWith('zh') ? 'zh' : 'en');
  words = await (await fetch(`/dashboard/static/words.${language}.json`)).json();
  document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
}

export const languageNow = () => language;
export const themeNow = () => kept('theme') || 'system';

export function t(name, values = {}) {
  const text = words[name] === undefined ? name : words[name];
  return text.replace(/\{(\w+)\}/g, (_, key) => (values[key] === undefined ? '' : values[key]));
}

export const has = (name) => words[name] !== undefined;

const none = '–';
const isNumber = (value) => typeof value === 'number' && Number.isFinite(value);
const format = (value, digits, more = {}) => new Intl.NumberFormat(language, { maximumSignificantDigits: digits, ...more }).format(value);

export const number = (value, digits = 3) => (isNumber(value) ? format(value, digits) : none);
export const whole = (value) => (isNumber(value) ? new Intl.NumberFormat(language, { maximumFractionDigits: 0 }).format(value) : none);
export const percent = (value, digits = 3) => (isNumber(value) ? format(value, digits, { style: 'percent' }) : none);
export const signed = (value) => (isNumber(value) ? format(value, 2, { style: 'percent', signDisplay: 'exceptZero' }) : none);
export const usd = (value) => (isNumber(value) ? `$${format(value, 3)}` : none);
export function seconds(value) {
  if (!isNumber(value)) return none;
  return value < 1 ? `${format(value * 1000, 3)} ms` : `${format(value, 3)} s`;
}
export function bytes(value) {
  if (!isNumber(value)) return none;
  return value < 1e9 ? `${format(value / 2 ** 20, 3)} MiB` : `${format(value / 2 ** 30, 3)} GiB`;
}
const zoned = (options) => new Intl.DateTimeFormat(language, options);
export const clock = (at) => zoned({ hour: '2-digit', minute: '2-digit', second: '2-digit' }).format(at * 1000);
export const minute = (at) => zoned({ hour: '2-digit', minute: '2-digit' }).format(at * 1000);
export const date = (at) => zoned({ dateStyle: 'medium', timeStyle: 'medium' }).format(at * 1000);
export const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;
