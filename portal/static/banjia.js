// What the pages do beyond forms and links. Everything here is an ease: without it each page still works.

const chinese = document.documentElement.lang.startsWith('zh');

// --- times: pages are written for China (UTC+8); here they become the reader's own ---

const timeForms = {
  time: { hour: '2-digit', minute: '2-digit', hour12: false },
  day: { month: chinese ? 'numeric' : 'short', day: 'numeric' },
};

function ago(date) {
  const seconds = Math.max(0, Math.round((Date.now() - date) / 1000));
  const [count, zh, en] = seconds < 60 ? [seconds, '秒', 's'] : seconds < 7200 ? [Math.round(seconds / 60), '分钟', 'min']
    : seconds < 172800 ? [Math.round(seconds / 3600), '小时', 'h'] : [Math.round(seconds / 86400), '天', 'd'];
  return chinese ? `${count} ${zh}前` : `${count} ${en} ago`;
}

function clock(date) { return date.toLocaleTimeString(chinese ? 'zh-CN' : 'en-GB', timeForms.time); }

function day(date) {
  const year = date.getFullYear() === new Date().getFullYear() ? '' : date.getFullYear();
  if (chinese) return `${year ? year + ' 年 ' : ''}${date.getMonth() + 1} 月 ${date.getDate()} 日`;
  return `${date.toLocaleDateString('en-GB', timeForms.day)} ${year}`.trim();
}

function shown(element) {
  const date = new Date(element.dateTime);
  switch (element.dataset.when) {
    case 'ago': return ago(date);
    case 'time': return clock(date);
    case 'full': return `${day(date)} ${clock(date)}`;
    default: return date.toDateString() === new Date().toDateString() ? clock(date) : `${day(date)} ${clock(date)}`;
  }
}

function tellTimes(root) {
  for (const element of root.querySelectorAll('time[data-when]')) {
    const text = shown(element);
    if (element.textContent !== text) element.textContent = text;
  }
}

// --- live parts: ask every 2 s, change only what differs ---

const EVERY = 2000, HIDDEN = 15000, SLOWEST = 30000;

// Makes `now` like `wanted`, keeping every element that is there in both: focus stays where it is, what was opened stays open.
function become(now, wanted) {
  if (now.nodeType !== wanted.nodeType || now.nodeName !== wanted.nodeName) { now.replaceWith(wanted.cloneNode(true)); return; }
  if (now.nodeType !== Node.ELEMENT_NODE) { if (now.nodeValue !== wanted.nodeValue) now.nodeValue = wanted.nodeValue; return; }
  if (now.nodeName === 'NOSCRIPT' || (now.nodeName === 'TIME' && now.dateTime === wanted.dateTime)) return;
  for (const { name } of [...now.attributes]) {
    if (!wanted.hasAttribute(name) && !(name === 'open' && now.nodeName === 'DETAILS') && name !== 'data-shown') now.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (name === 'hidden' && now.dataset.shown) continue;
    if (now.getAttribute(name) !== value) now.setAttribute(name, value);
  }
  const old = [...now.childNodes], fresh = [...wanted.childNodes];
  fresh.forEach((child, at) => (at < old.length ? become(old[at], child) : now.append(child.cloneNode(true))));
  old.slice(fresh.length).forEach((child) => child.remove());
}

function keepLive(frame) {
  let tag = '', wait = EVERY, timer = 0, asking = false;

  const stop = (text) => {
    clearTimeout(timer);
    document.removeEventListener('visibilitychange', whenSeen);
    if (text) {
      const note = document.createElement('p');
      note.className = 'note wait'; note.setAttribute('role', 'status'); note.textContent = text;
      frame.prepend(note);
    }
  };
  const again = () => { clearTimeout(timer); timer = setTimeout(ask, document.hidden ? HIDDEN : wait); };

  async function ask() {
    if (asking) return;
    asking = true;
    try {
      const answer = await fetch(frame.dataset.live, { headers: tag ? { 'If-None-Match': tag } : {}, cache: 'no-store', credentials: 'same-origin' });
      wait = EVERY;
      if (answer.status === 401) return stop(chinese ? '为了安全，这一页不再更新。搬家没有停；再点一次你的个人链接就能看。' : 'For safety this page has stopped updating. The move goes on; open your personal link again to see it.');
      if (answer.status === 200) {
        tag = answer.headers.get('ETag') || '';
        const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html').body.firstElementChild;
        const body = frame.firstElementChild;
        if (fresh && body) {
          become(body, fresh);
          begin(frame);
          if (fresh.dataset.title) document.title = document.title.replace(/^.*?(?= · [^·]*$)/, fresh.dataset.title);
          if (fresh.dataset.liveState === 'over') return stop();
        }
      } else if (answer.status !== 304) wait = Math.min(SLOWEST, wait * 2);
    } catch { wait = Math.min(SLOWEST, wait * 2); } finally { asking = false; }
    again();
  }

  const whenSeen = () => { if (!document.hidden) ask(); };
  document.addEventListener('visibilitychange', whenSeen);
  again();
}

// --- small things ---

async function copy(button) {
  try { await navigator.clipboard.writeText(button.dataset.copy); } catch {
    const field = document.createElement('textarea');
    field.value = button.dataset.copy; document.body.append(field); field.select();
    document.execCommand('copy'); field.remove();
  }
  const label = button.querySelector('span'), before = label.textContent;
  label.textContent = button.dataset.copied;
  setTimeout(() => { label.textContent = before; }, 2000);
}

function reveal(button) {
  const field = document.getElementById(button.dataset.reveal), show = field.type === 'password', label = button.querySelector('span');
  button.dataset.show ||= label.textContent;
  field.type = show ? 'text' : 'password';
  label.textContent = show ? button.dataset.hide : button.dataset.show;
  button.setAttribute('aria-pressed', String(show));
}

// A tick in the list of steps is a reminder for this person on this device; nothing is sent.
function remember(box) {
  const key = `banjia:${box.dataset.remember}`;
  try {
    box.checked = sessionStorage.getItem(key) === '1';
    box.addEventListener('change', () => sessionStorage.setItem(key, box.checked ? '1' : ''));
  } catch { /* no storage: the tick lasts as long as the page */ }
}

document.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.copy !== undefined) copy(button);
  if (button.dataset.reveal) reveal(button);
});

// One press is one act: a second press while the first is on its way does nothing.
document.addEventListener('submit', (event) => {
  if (event.target.dataset.sent) { event.preventDefault(); return; }
  event.target.dataset.sent = '1';
  for (const button of event.target.querySelectorAll('[aria-pressed=true][data-reveal]')) reveal(button); // a shown secret is not kept by the browser as text
});
window.addEventListener('pageshow', () => { for (const form of document.forms) delete form.dataset.sent; });

window.addEventListener('beforeprint', () => { for (const part of document.querySelectorAll('details')) part.open = true; });

// Shows what needs this script, and puts times right; also after a live part changed.
function begin(root) {
  tellTimes(root);
  for (const button of root.querySelectorAll('[data-copy], [data-reveal]')) { button.hidden = false; button.dataset.shown = '1'; }
}

begin(document);
document.querySelectorAll('[data-remember]').forEach(remember);
document.querySelectorAll('[data-live]').forEach(keepLive);
document.querySelector('[data-focus]')?.focus();
setInterval(() => tellTimes(document), 1000);
