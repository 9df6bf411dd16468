// Trade-off: what accuracy costs in time and money, and what other weights would have chosen.
import { get } from './api.js';
import { bars, chart } from './chart.js';
import { h } from './dom.js';
import { has, number, percent, seconds, t, usd, whole } from './words.js';

const WEIGHTS = ['accuracy', 'latency', 'cost'];
const asked = { profile: '*', accuracy: 1, latency: 1, cost: 0 };
let result = null;
let timer = 0;
let count = 0;

export async function fetch(state, actions) {
  state.shown.tradeOff = await get('/trade-off');
  await ask(actions);
}

export function onNewest(state, actions) {
  clearTimeout(timer);
  timer = setTimeout(actions.refresh, 3000);
}

async function ask(actions) {
  count += 1;
  const mine = count;
  const query = new URLSearchParams(WEIGHTS.map((name) => [name, asked[name]]));
  if (asked.profile !== '*') query.set('profile', asked.profile);
  try {
    const found = await get(`/counterfactual?${query}`);
    if (mine === count) result = found;
  } catch (error) { actions.fail(error); }
  actions.redraw();
}

export function render(state, actions) {
  const data = state.shown.tradeOff;
  if (!data) return h('p', { class: 'quiet' }, t('loading'));
  if (!data.prompts) return h('p', { class: 'notice' }, t('trade-off.empty'));
  return [
    h('p', {}, t('trade-off.told', { prompts: whole(data.prompts) })),
    h('div', { class: 'columns' }, plane(data, 'e2e_s', t('axis.latency'), seconds), plane(data, 'cost_usd', t('axis.cost'), usd)),
    slider(data, actions),
  ];
}

function plane(data, axis, label, text) {
  const named = (name) => (name ? `auto:${name}` : 'auto');
  return chart({
    title: t(`trade-off.${axis}`), fromZero: true, xFromZero: true, height: 300,
    x: { label, text }, y: { label: t('axis.accuracy'), text: (value) => percent(value) },
    series: [
      { name: t('trade-off.mix'), points: data.mixes[axis].map((one) => [one[axis], one.accuracy]) },
      { name: t('trade-off.models'), kind: 'dots', points: Object.entries(data.models).map(([name, one]) => [one[axis], one.accuracy, name]) },
      { name: t('trade-off.profiles'), kind: 'dots', points: data.profiles.filter((one) => one.requests).map((one) => [one[axis], one.accuracy, named(one.profile)]) },
    ],
  });
}

function slider(data, actions) {
  const change = (name) => (event) => {
    asked[name] = name === 'profile' ? event.target.value : Number(event.target.value);
    if (name === 'profile') {
      const own = data.profiles.find((one) => one.profile === asked.profile);
      if (own && own.weights) Object.assign(asked, own.weights);
    }
    clearTimeout(timer);
    timer = setTimeout(() => ask(actions), 150);
    actions.redraw();
  };
  return h('section', { class: 'card' },
    h('h2', {}, t('trade-off.slider')),
    h('p', {}, t('trade-off.slider-told', { policy: has(`policy.${data.policy}`) ? t(`policy.${data.policy}`) : data.policy })),
    h('form', { class: 'fields', onsubmit: (event) => event.preventDefault() },
      h('label', {}, t('trade-off.profile'), h('select', { value: asked.profile, onchange: change('profile') },
        h('option', { value: '*' }, t('trade-off.all')), data.profiles.map((one) => h('option', { value: one.profile }, one.profile || 'auto')))),
      WEIGHTS.map((name) => h('label', {}, `${t(`weight.${name}`)}: ${number(asked[name])}`,
        h('input', { type: 'range', min: 0, max: 5, step: 0.1, value: asked[name], oninput: change(name) })))),
    h('div', { 'aria-live': 'polite' }, result ? outcome(result) : null));
}

function outcome(found) {
  if (!found.prompts) return h('p', { class: 'quiet' }, t('trade-off.none'));
  const rows = (counts) => Object.entries(counts).sort().map(([name, one]) => [name, one / found.prompts, `${whole(one)} (${percent(one / found.prompts, 2)})`]);
  return [
    h('p', {}, t('trade-off.changed', {
      changed: whole(found.changed), prompts: whole(found.prompts), accuracy: percent(found.expected.accuracy),
      latency: seconds(found.expected.e2e_s), cost: usd(found.expected.cost_usd),
    })),
    h('div', { class: 'columns' }, bars(t('trade-off.was'), rows(found.before)), bars(t('trade-off.would'), rows(found.counts))),
  ];
}
