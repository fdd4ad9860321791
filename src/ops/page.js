(function refresh() {
  setTimeout(async () => {
    try {
      if (!document.hidden) {
        const reply = await fetch(location.pathname, { cache: 'no-store' });
        const page = new DOMParser().parseFromString(await reply.text(), 'text/html');
        document.title = page.title;
        document.querySelector('main').innerHTML = page.querySelector('main').innerHTML;
      }
    } catch {
      const state = document.querySelector('.state');
      state.className = 'state bad';
      state.textContent = 'no answer';
    }
    refresh();
  }, 2000);
})();
