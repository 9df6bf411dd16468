// The frame around the views: navigation, language, theme, the live stream, and what is the matter where something is.
import { get, live, onEnded, post } from './api.js';
import { h, patch } from './dom.js';
import { clock, keep, languageNow, load, t, themeNow } from './words.js';
import * as decisions from './view-decisions.js';
import * as learning from './view-learning.js';
import * as now from './view-now.js';
import * as operate from './view-operate.js';
import * as playground from './view-playground.js';
import * as tradeOff from './view-trade-off.js';

const VIEWS = { now, 'trade-off': tradeOff, decisions, learning, playground, operate };
const state = { session: null, view: 'now', id: null, status: null, lost: false, ended: false, problem: '', shown: {} };
let stop = () => {};
let turn = 0;

const app = document.getElementById('app');

function frame() {
  const view = VIEWS[state.view];
  patch(app, [
    h('a', { class: 'skip', href: '#content', onclick: toContent }, t('frame.skip')),
    h('header', {},
      h('strong', { class: 'brand' }, 'FastServe'),
      h('nav', { 'aria-label': t('frame.views') }, Object.keys(VIEWS).map((name) => h('a', {
        href: `/dashboard/${name}`, 'aria-current': name === state.view ? 'page' : false, onclick: follow,
      }, t(`view.${name}`)))),
      h('div', { class: 'tools' }, choice('language', languageNow(), { en: 'English', zh: '中文' }, setLanguage),
        choice('theme', themeNow(), { system: t('theme.system'), light: t('theme.light'), dark: t('theme.dark') }, setTheme),
        h('span', { class: 'who' }, state.session.name), h('button', { onclick: signOut }, t('frame.sign-out')))),
    h('div', { class: 'notices', role: 'status' }, notices()),
    h('main', { id: 'content', tabindex: '-1', 'data-view': state.view },
      h('h1', {}, t(`view.${state.view}`)),
      state.problem ? h('p', { class: 'problem', role: 'alert' }, state.problem) : null,
      h('div', { 'data-key': `${state.view}/${state.id || ''}` }, view.render(state, actions))),
  ]);
  document.title = `${t(`view.${state.view}`)} · FastServe`;
}

function choice(name, value, options, set) {
  return h('label', { class: 'choice' }, h('span', { class: 'hidden' }, t(`frame.${name}`)),
    h('select', { value, onchange: (event) => set(event.target.value) }, Object.entries(options).map(([key, text]) => h('option', { value: key }, text))));
}

function notices() {
  const status = state.status;
  const found = [];
  if (state.ended) {
    return h('p', { class: 'notice' }, t('notice.ended'), ' ', h('a', { href: location.pathname }, t('notice.sign-in')));
  }
  if (state.lost) found.push(t('notice.lost'));
  else if (status && status.silent) found.push(status.heard_s ? t('notice.silent', { at: clock(status.heard_s) }) : t('notice.silent-ever'));
  else if (status && status.models === 0) found.push(t('notice.empty'));
  if (status && status.log_problem && !status.silent) found.push(t('notice.log', { problem: status.log_problem }));
  return found.map((text) => h('p', { class: 'notice' }, text));
}

const actions = {
  redraw: frame,
  refresh: () => fetchView(turn),
  go: (path) => { history.pushState(null, '', path); open(); },
  fail: (error) => { state.problem = error.message; frame(); },
};

function follow(event) {
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  event.preventDefault();
  actions.go(new URL(event.currentTarget.href).pathname);
}
actions.follow = follow;

function toContent(event) {
  event.preventDefault();
  document.getElementById('content').focus();
}

async function setLanguage(value) {
  keep('language', value);
  await load(value);
  frame();
}

function setTheme(value) {
  keep('theme', value);
  document.documentElement.dataset.theme = value;
  frame();
}

async function signOut() {
  try { await post('/sign-out', {}); } catch { /* it has ended anyway */ }
  location.assign('/dashboard/sign-in');
}

/* Show the view of the address. */
async function open() {
  const [, , name, id] = location.pathname.split('/');
  const before = state.view;
  Object.assign(state, { view: VIEWS[name] ? name : 'now', id: id ? decodeURIComponent(id) : null, problem: '' });
  stop();
  turn += 1;
  const view = VIEWS[state.view];
  const topics = ['status', ...(view.topics || [])];
  const mine = turn;
  const on = Object.fromEntries(topics.map((topic) => [topic, (data) => hear(mine, topic, data)]));
  stop = live(topics, on, (lost) => { if (state.lost !== lost) { state.lost = lost; frame(); } });
  frame();
  if (before !== state.view) document.getElementById('content').focus();
  await fetchView(mine);
}

function hear(mine, topic, data) {
  if (mine !== turn) return;
  if (topic === 'status') state.status = data;
  if (topic === 'now') state.shown.now = data;
  if (topic === 'newest' && VIEWS[state.view].onNewest) VIEWS[state.view].onNewest(state, actions);
  frame();
}

async function fetchView(mine) {
  try {
    await VIEWS[state.view].fetch(state, actions);
    if (mine === turn) state.problem = '';
  } catch (error) {
    if (mine === turn) state.problem = error.message;
  }
  if (mine === turn) frame();
}

onEnded(() => { state.ended = true; stop(); frame(); });
addEventListener('popstate', open);
addEventListener('resize', () => { if (state.session) frame(); });
document.documentElement.dataset.theme = themeNow();
await load();
state.session = await get('/session');
state.status = state.session.status;
await open();
