// Learning: what the policy earns, its versions with every verdict, calibration and evaluation.
import { get } from './api.js';
import { chart, scroll } from './chart.js';
import { h } from './dom.js';
import { clock, date, minute, number, percent, t, whole, zone } from './words.js';
import { interval } from './view-now.js';

export const topics = ['newest'];
let timer = 0;

export async function fetch(state) {
  state.shown.learning = await get('/learning');
}

export function onNewest(state, actions) {
  clearTimeout(timer);
  timer = setTimeout(actions.refresh, 3000);
}

export function render(state) {
  const data = state.shown.learning;
  if (!data) return h('p', { class: 'quiet' }, t('loading'));
  return [who(data), earned(data), versions(data), calibration(data), evaluation(data)];
}

function who({ state }) {
  const trial = state.candidate;
  const told = [t('learning.active', { version: state.active })];
  if (trial) told.push(t('learning.trial', { version: trial.name, stage: t(`stage.${trial.stage}`), share: percent(trial.share) }));
  if (trial && trial.reason) told.push(t('learning.waits', { gate: trial.reason }));
  if (state.paused) told.push(t('learning.paused'));
  if (state.frozen_since_s) told.push(t('learning.rests', { at: date(state.frozen_since_s) }));
  return h('ul', { class: 'story' }, told.map((text) => h('li', {}, text)));
}

function earned(data) {
  const points = (name) => data.curve.map((one) => [one.at_s, one[name]]);
  const long = data.curve.length && data.curve[data.curve.length - 1].at_s - data.curve[0].at_s > 1200;
  return [chart({
    title: t('learning.earned'),
    x: { label: t('axis.time', { zone: zone() }), text: long ? minute : clock },
    y: { label: t('axis.reward'), text: (value) => number(value) },
    series: [{ name: t('learning.reward'), points: points('reward') }, { name: t('learning.regret'), points: points('regret') }],
    marks: data.marks.map((one) => [one.at_s, `${date(one.at_s)}: ${t(`event.${one.kind}`)} ${one.version}`]),
  }), h('p', { class: 'quiet' }, t('learning.earned-told'))];
}

function versions(data) {
  if (!data.versions.length) return h('section', {}, h('h2', {}, t('learning.versions')), h('p', { class: 'notice' }, t('learning.no-version')));
  return h('section', {}, h('h2', {}, t('learning.versions')), data.versions.map(version));
}

function version(one) {
  const heads = ['at', 'step', 'told', 'numbers'].map((name) => h('th', { scope: 'col' }, t(`learning.${name}`)));
  const rows = one.steps.map((step) => h('tr', {}, [date(step.at_s), event(step), told(step), numbers(step)].map((cell) => h('td', {}, cell))));
  return h('details', { class: 'card', 'data-key': one.name },
    h('summary', {}, one.name, one.is_active ? h('span', { class: 'badge ok' }, t('learning.serves')) : null, ` · ${last(one)}`),
    scroll(one.name, h('table', {}, h('thead', {}, h('tr', {}, heads)), h('tbody', {}, rows))));
}

const event = (step) => (step.kind === 'verdict' ? t('event.verdict', { gate: step.detail.gate, result: t(step.detail.passed ? 'learning.passed' : step.detail.needs_evidence ? 'learning.waits-evidence' : 'learning.failed') }) : t(`event.${step.kind}`));
const last = (one) => event(one.steps[one.steps.length - 1]);
const told = (step) => [step.detail.reason, step.detail.by, step.detail.simulator].filter((one) => typeof one === 'string' && one).join(', ');

function numbers(step) {
  const found = Object.entries(step.detail.numbers || {});
  if (!found.length) return step.detail.share ? percent(step.detail.share) : '';
  return h('details', {}, h('summary', {}, whole(found.length)), h('dl', { class: 'facts' }, found.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, number(value, 4))))));
}

function calibration(data) {
  return [chart({
    title: t('learning.calibration', { votes: whole(data.votes) }), xFromZero: true,
    x: { label: t('axis.predicted'), text: (value) => percent(value) }, y: { label: t('axis.voted'), text: (value) => percent(value) },
    series: [
      { name: t('learning.ideal'), points: data.calibration.length ? [[0, 0], [1, 1]] : [] },
      { name: t('learning.voted'), kind: 'dots', points: data.calibration.map((one) => [one.predicted, one.voted, whole(one.count)]) },
    ],
  }), data.calibration.length ? null : h('p', { class: 'quiet' }, t('learning.no-votes'))];
}

function evaluation(data) {
  const models = Object.keys(data.evaluation);
  const tasks = [...new Set(models.flatMap((model) => Object.keys(data.evaluation[model])))].sort();
  if (!tasks.length) return h('section', {}, h('h2', {}, t('learning.evaluation')), h('p', { class: 'notice' }, t('learning.no-evaluation')));
  return h('section', {}, h('h2', {}, t('learning.evaluation')), scroll(t('learning.evaluation'), h('table', {}, h('caption', {}, t('learning.evaluation-told')),
    h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, t('learning.task')), models.map((model) => h('th', { scope: 'col' }, model)))),
    h('tbody', {}, tasks.map((task) => h('tr', {}, h('th', { scope: 'row' }, task || t('learning.all-tasks')), models.map((model) => {
      const one = data.evaluation[model][task];
      return h('td', { class: 'num' }, one ? [interval(one), ' ', h('small', {}, t('learning.items', { count: whole(one.count) }))] : '–');
    })))))));
}
