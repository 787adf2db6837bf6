// Building the page. Text only ever gets into it as text.

/** Returns a new element. Props are attributes, but for `on…` listeners and `text`. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** Returns a new SVG element. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), props, children);
}

function fill(el, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'text') el.textContent = value;
    else if (name.startsWith('on')) el.addEventListener(name.slice(2), value);
    else el.setAttribute(name, value === true ? '' : value);
  }
  el.append(...children.filter((c) => c !== null && c !== undefined));
  return el;
}

/** Sets the text of an element, if that is another one. */
export function text(el, value) {
  if (el.textContent !== value) el.textContent = value;
}

/** Sets an attribute, if it is another one; null removes it. */
export function attr(el, name, value) {
  if (value === null) el.removeAttribute(name);
  else if (el.getAttribute(name) !== String(value)) el.setAttribute(name, value);
}

/** Shows or hides an element. */
export function show(el, visible) {
  if (el.hidden === visible) el.hidden = !visible;
}

/** Puts the children of an element into an order, moving as few as it can, and
 * leaves the focus where it was. */
export function arrange(parent, wanted) {
  const focused = document.activeElement;
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const el of wanted) {
    if (el === next) next = next.nextElementSibling;
    else parent.insertBefore(el, next);
  }
  if (focused && focused !== document.activeElement && parent.contains(focused)) focused.focus({ preventScroll: true });
}
