// Decisions: the newest with filters, and one with all that went into it, in words.
import { get } from './api.js';
import { bars, scroll } from './chart.js';
import { h } from './dom.js';
import { date, has, number, percent, seconds, t, usd, whole } from './words.js';

export const topics = ['newest'];
const FILTERS = ['profile', 'model', 'policy', 'key', 'status'];
const filter = { profile: '', model: '', policy: '', key: '', status: '', slow: '', fallback: '' };
let pages = [null]; // the last id of each page before, for the way back

export async function fetch(state) {
  if (state.id) {
    state.shown.decision = null;
    state.shown.decision = await get(`/decisions/${encodeURIComponent(state.id)}`);
    return;
  }
  const query = new URLSearchParams(Object.entries(filter).filter(([, value]) => value));
  const before = pages[pages.length - 1];
  if (before) query.set('before', before);
  state.shown.decisions = await get(`/decisions?${query}`);
}

export function onNewest(state, actions) {
  if (!state.id && pages.length === 1) actions.refresh();
}

export function render(state, actions) {
  return state.id ? one(state, actions) : list(state, actions);
}

function list(state, actions) {
  const data = state.shown.decisions;
  if (!data) return h('p', { class: 'quiet' }, t('loading'));
  const set = (name, read) => (event) => { filter[name] = read(event.target); pages = [null]; actions.refresh(); };
  return [
    h('form', { class: 'fields', onsubmit: (event) => find(event, actions) },
      h('label', {}, t('decisions.id'), h('input', { name: 'id', type: 'search', placeholder: 'd-…', spellcheck: 'false' })),
      h('button', {}, t('decisions.open'))),
    h('form', { class: 'fields', onsubmit: (event) => event.preventDefault() },
      FILTERS.map((name) => h('label', {}, t(`decisions.${name}`), h('select', { value: filter[name], onchange: set(name, (field) => field.value) },
        h('option', { value: '' }, t('decisions.any')), data.choices[name].filter(Boolean).map((value) => h('option', { value }, shown(name, value)))))),
      ['slow', 'fallback'].map((name) => h('label', { class: 'tick' },
        h('input', { type: 'checkbox', checked: filter[name] === '1', onchange: set(name, (field) => (field.checked ? '1' : '')) }), t(`decisions.${name}`)))),
    h('p', { class: 'quiet' }, t('decisions.of', { of: whole(data.of) })),
    data.rows.length ? table(data, actions) : h('p', { class: 'notice' }, t(data.of ? 'decisions.no-match' : 'decisions.empty')),
    h('p', { class: 'pages' },
      h('button', { disabled: pages.length === 1, onclick: () => { pages.pop(); actions.refresh(); } }, t('decisions.newer')),
      h('button', { disabled: !data.more, onclick: () => { pages.push(data.rows[data.rows.length - 1].id); actions.refresh(); } }, t('decisions.older'))),
  ];
}

const shown = (name, value) => (name === 'status' ? t(`status.${value}`) : value);

function find(event, actions) {
  event.preventDefault();
  const id = new FormData(event.target).get('id').trim();
  if (id) actions.go(`/dashboard/decisions/${encodeURIComponent(id)}`);
}

function table(data, actions) {
  const heads = ['at', 'requested', 'chosen', 'policy', 'key', 'status', 'took', 'cost'];
  return scroll(t('view.decisions'), h('table', {},
    h('thead', {}, h('tr', {}, heads.map((name) => h('th', { scope: 'col' }, t(`decisions.${name}`))))),
    h('tbody', {}, data.rows.map((row) => h('tr', { 'data-key': row.id },
      h('td', {}, h('a', { href: `/dashboard/decisions/${row.id}`, onclick: actions.follow }, date(row.at_s))),
      h('td', {}, row.requested),
      h('td', {}, row.fallbacks.length ? `${row.chosen} → ${row.answered}` : row.chosen),
      h('td', {}, row.policy), h('td', {}, row.key),
      h('td', {}, h('span', { class: `badge ${row.status}` }, t(`status.${row.status}`)), row.slow ? ` ${t('decisions.slow-mark')}` : null),
      h('td', { class: 'num' }, seconds(row.e2e_s)), h('td', { class: 'num' }, usd(row.cost_usd)))))));
}

function one(state, actions) {
  const back = h('p', {}, h('a', { href: '/dashboard/decisions', onclick: actions.follow }, t('decision.back')));
  const data = state.shown.decision;
  if (!data) return [back, state.problem ? h('p', { class: 'notice' }, t('decision.unknown')) : h('p', { class: 'quiet' }, t('loading'))];
  return [back,
    h('h2', {}, t('decision.title')), h('p', { class: 'id' }, data.id),
    h('ul', { class: 'story' }, story(data).map((text) => h('li', {}, text))),
    data.candidates.length ? [chances(data), candidates(data)] : null,
    data.outcome ? outcome(data) : null,
    details(data)];
}

/* What happened, in sentences. */
function story(data) {
  const found = [t('decision.asked', { at: date(data.at_s), requested: data.requested, key: data.key })];
  for (const one of data.candidates.filter((candidate) => candidate.reason)) found.push(why(one.model, one.reason));
  const chosen = data.candidates.find((one) => one.model === data.chosen);
  const named = data.policy === 'named';
  found.push(t(named ? 'decision.named' : 'decision.chosen', { model: data.chosen, policy: policy(data.policy), chance: percent(data.propensity) }));
  if (chosen) found.push(t('decision.expected', { accuracy: percent(chosen.accuracy), latency: seconds(chosen.e2e_s), cost: usd(chosen.cost_usd) }));
  if (!named && chosen && data.candidates.some((one) => (one.probability || 0) > data.propensity)) found.push(t('decision.explored', { epsilon: percent(data.epsilon) }));
  for (const tried of data.fallbacks) found.push(t('decision.failed', { model: tried }));
  const end = { model: data.answered, took: seconds(data.e2e_s), ttft: seconds(data.ttft_s), cost: usd(data.cost_usd), error: data.error || '–' };
  found.push(t(`decision.end-${data.status}`, end));
  if (data.slow) found.push(t('decision.slow'));
  for (const vote of data.votes) found.push(t('decision.vote', { metric: vote.metric, score: number(vote.score), at: date(vote.at_s) }));
  return found;
}

export function why(model, reason) {
  return has(`reason.${reason}`) ? t(`reason.${reason}`, { model }) : t('reason', { model, reason });
}

function policy(text) {
  const [name, ...more] = text.split(';');
  const told = more.map((one) => (has(`policy.${one}`) ? t(`policy.${one}`) : one));
  return [has(`policy.${name}`) ? t(`policy.${name}`) : name, ...told].join(', ');
}

const chances = (data) => bars(t('decision.chances'), data.candidates.map((one) => [one.model, one.probability || 0, one.reason ? t('decision.masked') : percent(one.probability)]));

function candidates(data) {
  const columns = ['accuracy', 'e2e_s', 'cost_usd', 'utility', 'residual', 'probability', 'in_flight'];
  const text = { accuracy: (one) => `${percent(one.accuracy)} ± ${percent(one.accuracy_std)}`, e2e_s: (one) => seconds(one.e2e_s), cost_usd: (one) => usd(one.cost_usd), probability: (one) => percent(one.probability), in_flight: (one) => whole(one.in_flight) };
  return scroll(t('decision.candidates'), h('table', {}, h('caption', {}, t('decision.candidates')),
    h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, t('decisions.model')), columns.map((name) => h('th', { scope: 'col' }, t(`candidate.${name}`))), h('th', { scope: 'col' }, t('candidate.reason')))),
    h('tbody', {}, data.candidates.map((one) => h('tr', { class: one.model === data.chosen ? 'drawn' : false },
      h('th', { scope: 'row' }, one.model, one.model === data.chosen ? ` (${t('decision.drawn')})` : ''),
      columns.map((name) => h('td', { class: 'num' }, (text[name] || ((row) => number(row[name])))(one))),
      h('td', {}, one.reason ? why(one.model, one.reason) : ''))))));
}

function outcome(data) {
  const { outcome: end } = data;
  const rows = { ttft_s: seconds(end.ttft_s), tpot_s: seconds(end.tpot_s), e2e_s: seconds(end.e2e_s), queue_s: seconds(end.queue_s), prompt_tokens: whole(end.prompt_tokens), output_tokens: whole(end.output_tokens), cost_usd: usd(end.cost_usd), attempts: whole(end.attempts), replica: end.replica };
  return h('section', {}, h('h2', {}, t('decision.outcome')), h('dl', { class: 'facts' }, Object.entries(rows).map(([name, value]) => h('div', {}, h('dt', {}, t(`outcome.${name}`)), h('dd', {}, value)))));
}

function details(data) {
  const rows = [['decision.weights', ['accuracy_weight', 'latency_weight', 'cost_weight'].map((name) => number(data.caller[name])).join(' / ')],
    ['decision.target', data.caller.target_s ? seconds(data.caller.target_s) : '–'], ['decision.epsilon', percent(data.epsilon)], ['decision.decide', seconds(data.decide_s)],
    ['decision.age', seconds(data.snapshot_age_s)], ['decision.prompt', t('now.tokens', { count: whole(data.prompt.prompt_tokens) })], ['decision.shadow', data.shadow || '–']];
  return h('section', {}, h('h2', {}, t('decision.details')), h('dl', { class: 'facts' }, rows.map(([name, value]) => h('div', {}, h('dt', {}, t(name)), h('dd', {}, value)))));
}
