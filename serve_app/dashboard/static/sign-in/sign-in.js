// The sign-in: sends the key once, in a body, and keeps it nowhere; what stays is a cookie that no script can read.
const WORDS = {
  en: {
    title: 'FastServe: sign in',
    key: 'API key',
    hint: 'A key with the role read or admin. On the server: fastserve keys create NAME --role read',
    send: 'Sign in',
    401: 'This key is not known, or has expired.',
    403: 'This key may not see the dashboard: it needs the role read or admin.',
    503: 'The performance table does not answer. Look at: fastserve status',
    other: 'The server cannot be reached. Try again.',
  },
  zh: {
    title: 'FastServe：登录',
    key: 'API 密钥',
    hint: '需要角色为 read 或 admin 的密钥。在服务器上：fastserve keys create NAME --role read',
    send: '登录',
    401: '密钥未知或已过期。',
    403: '此密钥不能查看面板：需要角色 read 或 admin。',
    503: '性能表没有响应。请查看：fastserve status',
    other: '无法连接服务器，请重试。',
  },
};
const kept = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
const language = kept('language') || (navigator.language.startsWith('zh') ? 'zh' : 'en');
const words = WORDS[language] || WORDS.en;
document.documentElement.lang = language;
document.documentElement.dataset.theme = kept('theme') || 'system';
document.title = words.title;
for (const element of document.querySelectorAll('[data-word]')) element.textContent = words[element.dataset.word];

// A link from another site comes without the cookie. The page itself may ask with it: whoever is signed in goes on.
if (location.pathname !== '/dashboard/sign-in') {
  fetch('/dashboard/api/session').then((answer) => { if (answer.ok) location.reload(); }).catch(() => {});
}

document.getElementById('form').onsubmit = async (event) => {
  event.preventDefault();
  const field = document.getElementById('key');
  const problem = document.getElementById('problem');
  problem.textContent = '';
  let status = 0;
  try {
    const body = JSON.stringify({ key: field.value });
    const headers = { 'content-type': 'application/json' };
    status = (await fetch('/dashboard/sign-in', { method: 'POST', body, headers })).status;
  } catch { /* said below */ }
  if (status === 200) {
    if (location.pathname === '/dashboard/sign-in') location.replace('/dashboard/now');
    else location.reload();
    return;
  }
  problem.textContent = words[status] || words.other;
  field.select();
};
document.getElementById('key').focus();
