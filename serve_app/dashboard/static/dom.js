// Elements without a framework: `h` makes them, `patch` brings what is shown to what is wanted and keeps the focus.
const SVG = 'http://www.w3.org/2000/svg';
const HANDLERS = ['onclick', 'onchange', 'oninput', 'onsubmit', 'onkeydown', 'ontoggle'];

function build(element, props, children) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element[name] = value;
    else if (name === 'value') continue;
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  add(element, children);
  if (props && props.value !== undefined && props.value !== null) {
    element.value = props.value; // after the options of a select
    element.wanted = String(props.value);
  }
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

export const h = (tag, props, ...children) => build(document.createElement(tag), props, children);
export const s = (tag, props, ...children) => build(document.createElementNS(SVG, tag), props, children);

export function patch(parent, wanted) {
  const fragment = document.createElement('div');
  add(fragment, [wanted]);
  patchChildren(parent, fragment);
}

function patchChildren(old, wanted) {
  const now = [...old.childNodes];
  const next = [...wanted.childNodes];
  next.forEach((node, at) => {
    if (at >= now.length) old.append(node);
    else patchNode(old, now[at], node);
  });
  for (const extra of now.slice(next.length)) extra.remove();
}

function patchNode(parent, old, wanted) {
  const same = old.nodeType === wanted.nodeType && old.nodeName === wanted.nodeName
    && (old.nodeType !== 1 || old.getAttribute('data-key') === wanted.getAttribute('data-key'));
  if (!same) {
    parent.replaceChild(wanted, old);
    return;
  }
  if (old.nodeType === 3) {
    if (old.data !== wanted.data) old.data = wanted.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!wanted.hasAttribute(name) && !(name === 'open' && old.nodeName === 'DETAILS')) old.removeAttribute(name);
  }
  for (const { name, value } of [...wanted.attributes]) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const name of HANDLERS) old[name] = wanted[name];
  if (old.nodeName === 'TEXTAREA') return;
  patchChildren(old, wanted);
  if (old.wanted !== wanted.wanted) { // what the viewer has typed since stays
    old.wanted = wanted.wanted;
    if (old !== document.activeElement || old.nodeName === 'SELECT') old.value = wanted.value;
  }
}
