// Operate: what an admin may change. Each change is shown first, and made only after a yes.
import { get, post } from './api.js';
import { scroll } from './chart.js';
import { h } from './dom.js';
import { date, has, t } from './words.js';

const WEIGHTS = ['accuracy', 'latency', 'cost'];
let asked = null; // {action, body, title, changes}
let done = '';

export async function fetch(state) {
  if (state.session.admin) state.shown.operate = await get('/operate');
}

export function render(state, actions) {
  if (!state.session.admin) return h('p', { class: 'notice' }, t('operate.no-role'));
  const data = state.shown.operate;
  if (!data) return h('p', { class: 'quiet' }, t('loading'));
  return [
    h('p', {}, t('operate.told')),
    h('p', { role: 'status' }, done),
    asked ? confirm(actions) : null,
    h('div', { class: 'cards' }, learner(data, actions), models(data, actions), weights(data, actions)),
    history(data),
  ];
}

async function ask(actions, action, body, title) {
  done = '';
  try {
    const { changes } = await post(`/operate/${action}`, body);
    asked = { action, body, title, changes };
  } catch (error) { actions.fail(error); return; }
  actions.redraw();
  document.getElementById('confirm').focus();
}

async function make(actions) {
  const { action, body, title } = asked;
  asked = null;
  try {
    await post(`/operate/${action}`, { ...body, confirm: true });
    done = t('operate.done', { title });
  } catch (error) { actions.fail(error); return; }
  await actions.refresh();
}

function confirm(actions) {
  const close = () => { asked = null; actions.redraw(); };
  const none = !asked.changes.length;
  return h('section', { class: 'card confirm', role: 'alertdialog', 'aria-labelledby': 'confirm-title', id: 'confirm', tabindex: '-1', onkeydown: (event) => { if (event.key === 'Escape') close(); } },
    h('h2', { id: 'confirm-title' }, t('operate.confirm', { title: asked.title })),
    none ? h('p', {}, t('operate.no-change')) : h('table', {}, h('caption', {}, t('operate.changes')),
      h('thead', {}, h('tr', {}, ['what', 'before', 'after'].map((name) => h('th', { scope: 'col' }, t(`operate.${name}`))))),
      h('tbody', {}, asked.changes.map((one) => h('tr', {}, h('th', { scope: 'row' }, has(`change.${one.what}`) ? t(`change.${one.what}`) : one.what), h('td', {}, one.before), h('td', {}, one.after))))),
    h('p', { class: 'pages' }, none ? null : h('button', { class: 'primary', onclick: () => make(actions) }, t('operate.yes')), h('button', { onclick: close }, t('operate.no'))));
}

const button = (actions, action, body, title) => h('button', { onclick: () => ask(actions, action, body, title) }, title);

function learner(data, actions) {
  return h('section', { class: 'card' }, h('h2', {}, t('operate.policy')),
    h('p', {}, t('learning.active', { version: data.active })), data.candidate ? h('p', {}, t('operate.trial', { version: data.candidate })) : null,
    h('p', { class: 'pages' }, data.paused ? button(actions, 'resume', {}, t('operate.resume')) : button(actions, 'pause', {}, t('operate.pause')),
      button(actions, 'rollback', {}, t('operate.rollback'))),
    data.versions.length ? h('form', { class: 'fields', onsubmit: (event) => {
      event.preventDefault();
      const version = Number(new FormData(event.target).get('version'));
      ask(actions, 'promote', { version }, t('operate.promote-version', { version }));
    } }, h('label', {}, t('operate.version'), h('select', { name: 'version' }, data.versions.map((one) => h('option', { value: one }, `learned@${one}`)))), h('button', {}, t('operate.promote'))) : h('p', { class: 'quiet' }, t('learning.no-version')));
}

function models(data, actions) {
  return h('section', { class: 'card' }, h('h2', {}, t('operate.models')), h('p', { class: 'quiet' }, t('operate.drain-told')),
    h('ul', { class: 'plain' }, Object.entries(data.models).map(([model, drained]) => h('li', {}, h('strong', {}, model), drained ? h('span', { class: 'badge draining' }, t('operate.drained')) : null,
      button(actions, drained ? 'undrain' : 'drain', { model }, t(drained ? 'operate.undrain' : 'operate.drain', { model }))))));
}

function weights(data, actions) {
  return h('section', { class: 'card' }, h('h2', {}, t('operate.weights')), Object.entries(data.profiles).map(([profile, own]) => h('form', { class: 'weights', 'data-key': profile, onsubmit: (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    ask(actions, 'weights', { profile, ...Object.fromEntries(WEIGHTS.map((name) => [name, Number(form.get(name))])) }, t('operate.weights-of', { profile: profile || 'auto' }));
  } }, h('fieldset', {}, h('legend', {}, profile || 'auto'), WEIGHTS.map((name) => h('label', {}, t(`weight.${name}`), h('input', { type: 'number', name, min: 0, max: 100, step: 'any', required: true, value: own[name] }))), h('button', {}, t('operate.set'))))));
}

function history(data) {
  return h('section', {}, h('h2', {}, t('operate.history')), data.history.length ? scroll(t('operate.history'), h('table', {},
    h('thead', {}, h('tr', {}, ['at', 'who', 'what'].map((name) => h('th', { scope: 'col' }, t(`operate.${name}`))))),
    h('tbody', {}, data.history.map((one) => h('tr', {}, h('td', {}, date(one.at_s)), h('td', {}, one.who), h('td', {}, one.what)))))) : h('p', { class: 'quiet' }, t('operate.no-history')));
}
