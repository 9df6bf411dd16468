// Now: a card a model, and the pool as a whole.
import { get } from './api.js';
import { chart } from './chart.js';
import { h, s } from './dom.js';
import { bytes, clock, date, minute, number, percent, seconds, signed, t, usd, whole, zone } from './words.js';

export const topics = ['now'];

export async function fetch(state) {
  state.shown.now = await get('/now');
}

export function render(state) {
  const data = state.shown.now;
  if (!data) return h('p', { class: 'quiet' }, t('loading'));
  return [totals(data), rates(data),
    data.models.length ? h('div', { class: 'cards' }, data.models.map((model) => card(model, data))) : h('p', { class: 'notice' }, t('notice.empty'))];
}

function totals(data) {
  const { today } = data;
  const against = (usd_) => (today.spent_usd && usd_ ? signed((today.spent_usd - usd_) / usd_) : '–');
  return h('dl', { class: 'totals' },
    total(t('now.requests'), `${number(data.requests_per_s)}/s`, t('now.window', { seconds: whole(data.window_s) })),
    total(t('now.errors'), `${whole(data.errors)}`, t('now.of', { share: percent(data.requests ? data.errors / data.requests : NaN), count: whole(data.requests) })),
    total(t('now.fallbacks'), whole(data.fallbacks), t('now.fallbacks-told')),
    total(t('now.cost'), usd(today.spent_usd), t('now.since', { at: date(today.since_s), count: whole(today.requests) })),
    total(t('now.best'), usd(today.best_usd), t('now.against', { share: against(today.best_usd) })),
    total(t('now.cheapest'), usd(today.cheapest_usd), t('now.against', { share: against(today.cheapest_usd) })));
}

const total = (name, value, more) => h('div', {}, h('dt', {}, name), h('dd', {}, value, h('small', {}, more)));

function rates(data) {
  const series = ['requests', 'errors', 'fallbacks'].map((name) => ({ name: t(`now.${name}`), points: data.points.map((one) => [one.at_s, one[name]]) }));
  return chart({
    title: t('now.rates'), series, height: 200,
    x: { label: t('axis.time', { zone: zone() }), text: (value) => (data.points.length > 60 ? minute(value) : clock(value)) },
    y: { label: t('axis.per-s'), text: (value) => number(value) },
  });
}

export function health(model) {
  const states = model.replicas.map((one) => one.state);
  if (!states.length) return 'none';
  if (states.includes('warm')) return states.includes('stalled') ? 'partly' : 'ok';
  return states.includes('cold') ? 'starting' : states.includes('stalled') ? 'stalled' : 'draining';
}

function card(model, data) {
  const all = model.accuracy[''];
  const word = health(model);
  return h('section', { class: 'card', 'aria-label': model.model, 'data-key': model.model },
    h('h2', {}, model.model, h('span', { class: `badge ${word}` }, t(`health.${word}`))),
    h('p', { class: 'quiet' }, counted(model.replicas.map((one) => t(`state.${one.state}`)))),
    share(model),
    h('dl', { class: 'facts' },
      fact('now.in-flight', whole(model.in_flight)), fact('now.waiting', whole(model.waiting)),
      fact('now.ttft', pair(model.ttft_s)), fact('now.tpot', pair(model.tpot_s)),
      fact('now.accuracy', all ? interval(all) : t('now.unmeasured')),
      fact('now.price', t('now.price-told', { prompt: usd(model.prompt_usd_per_mtok), answer: usd(model.completion_usd_per_mtok) })),
      fact('now.error-rate', percent(model.error_rate)), fact('now.context', t('now.tokens', { count: whole(model.context_tokens) }))),
    h('details', {}, h('summary', {}, t('now.by-task', { count: Object.keys(model.accuracy).filter(Boolean).length })),
      h('dl', { class: 'facts' }, Object.entries(model.accuracy).filter(([task]) => task).map(([task, one]) => h('div', {}, h('dt', {}, task), h('dd', {}, interval(one)))))),
    h('details', {}, h('summary', {}, t('now.replicas', { count: model.replicas.length })),
      model.replicas.map((one) => h('dl', { class: 'facts' },
        h('div', {}, h('dt', {}, one.replica), h('dd', {}, t(`state.${one.state}`))),
        fact('now.running', `${whole(one.running)} / ${whole(one.slots)}`), fact('now.cpu', number(one.cpu_share)),
        fact('now.gpu', percent(one.gpu_share)), fact('now.kv', percent(one.kv_use)), fact('now.memory', bytes(one.memory_bytes)),
        fact('now.heard', seconds(one.age_s))))));
}

function share(model) {
  const text = t('now.share', { share: percent(model.share) });
  return h('p', { class: 'share' }, s('svg', { viewBox: '0 0 100 6', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    s('rect', { class: 'track', width: 100, height: 6 }), s('rect', { class: 'fill c0', width: 100 * (model.share || 0), height: 6 })), text);
}

const fact = (name, value) => h('div', {}, h('dt', {}, t(name)), h('dd', {}, value));
const pair = (quantiles) => (quantiles.count ? `${seconds(quantiles.p50)} / ${seconds(quantiles.p95)}` : t('now.unmeasured'));
export const interval = (one) => `${percent(one.mean)} (${percent(one.low)} – ${percent(one.high)})`;

function counted(states) {
  if (!states.length) return t('now.no-replica');
  return [...new Set(states)].map((name) => `${states.filter((one) => one === name).length} ${name}`).join(', ');
}
