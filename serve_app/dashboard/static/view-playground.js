// Playground: one prompt to several models side by side, each answer with its decision, and votes.
import { events, get, post, send } from './api.js';
import { h } from './dom.js';
import { t } from './words.js';

const asked = { models: new Set(['auto']) };
let answers = [];

export async function fetch(state) {
  const [now, tradeOff] = await Promise.all([get('/now'), get('/trade-off')]);
  state.shown.served = ['auto', ...tradeOff.profiles.filter((one) => one.profile && one.weights).map((one) => `auto:${one.profile}`), ...now.models.map((one) => one.model)];
}

export function render(state, actions) {
  const served = state.shown.served;
  if (!served) return h('p', { class: 'quiet' }, t('loading'));
  if (!state.session.roles.includes('infer')) return h('p', { class: 'notice' }, t('playground.no-role'));
  const busy = answers.some((one) => one.busy);
  return [
    h('p', {}, t('playground.told')),
    h('form', { class: 'ask', onsubmit: (event) => submit(event, actions) },
      h('label', {}, t('playground.prompt'), h('textarea', { name: 'prompt', rows: 4, required: true, maxlength: 20000 })),
      h('fieldset', {}, h('legend', {}, t('playground.models')), served.map((name) => h('label', { class: 'tick' },
        h('input', { type: 'checkbox', name: 'model', value: name, checked: asked.models.has(name), onchange: (event) => { asked.models[event.target.checked ? 'add' : 'delete'](name); } }), name))),
      h('label', {}, t('playground.max-tokens'), h('input', { type: 'number', name: 'max_tokens', min: 1, max: 1024, value: 128 })),
      h('button', { class: 'primary', disabled: busy }, t('playground.send'))),
    h('div', { class: 'cards', 'aria-live': 'polite', 'aria-busy': String(busy) }, answers.map((one) => answer(one, state, actions))),
  ];
}

function submit(event, actions) {
  event.preventDefault();
  const form = new FormData(event.target);
  const content = String(form.get('prompt') || '').trim();
  const models = form.getAll('model');
  if (!content || !models.length) return;
  answers = models.map((model) => ({ model, text: '', busy: true, problem: '', decision: null, vote: '' }));
  for (const one of answers) stream(one, { model: one.model, messages: [{ role: 'user', content }], max_tokens: Number(form.get('max_tokens')) }, actions);
  actions.redraw();
}

async function stream(one, body, actions) {
  try {
    for await (const [name, data] of events(await send('/playground/chat', body))) {
      if (name === 'decision') one.decision = data;
      else if (data.error) one.problem = data.error.message;
      else one.text += (data.choices && data.choices[0] && data.choices[0].delta && data.choices[0].delta.content) || '';
      actions.redraw();
    }
  } catch (error) { one.problem = error.message; }
  one.busy = false;
  actions.redraw();
}

function answer(one, state, actions) {
  const decision = one.decision;
  return h('section', { class: 'card', 'aria-label': one.model, 'data-key': one.model },
    h('h2', {}, one.model),
    decision ? h('p', { class: 'quiet' }, t('playground.answered', { model: decision.model || one.model, policy: decision.policy }), ' ',
      h('a', { href: `/dashboard/decisions/${decision.id}`, onclick: actions.follow }, t('playground.decision'))) : null,
    h('p', { class: 'answer' }, one.text || (one.busy ? t('playground.waits') : '')),
    one.problem ? h('p', { class: 'problem', role: 'alert' }, one.problem) : null,
    decision && !one.busy && !one.problem && state.session.roles.includes('feedback') ? votes(one, actions) : null);
}

function votes(one, actions) {
  if (one.vote) return h('p', {}, t(`playground.voted-${one.vote}`));
  const vote = (thumb) => async () => {
    try {
      await post('/playground/vote', { decision_id: one.decision.id, thumb });
      one.vote = thumb;
    } catch (error) { one.problem = error.message; }
    actions.redraw();
  };
  return h('p', { class: 'pages' }, h('button', { onclick: vote('up') }, t('playground.up')), h('button', { onclick: vote('down') }, t('playground.down')));
}
