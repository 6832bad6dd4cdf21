// What the staff pages do beyond banjia.js. Everything here is an ease: without it each page still works.

// Picking rows: one box for the whole page, and how many are picked.
for (const bar of document.querySelectorAll('[data-bulk]')) {
  const form = bar.closest('form'), boxes = [...form.querySelectorAll('input[name=id]')];
  const all = bar.querySelector('[data-all]'), whole = all.querySelector('input'), count = bar.querySelector('[data-count]');
  const tell = () => {
    const picked = boxes.filter((box) => box.checked).length;
    count.textContent = `(${picked})`;
    count.hidden = !picked;
    whole.checked = picked > 0 && picked === boxes.length;
    whole.indeterminate = picked > 0 && picked < boxes.length;
  };
  all.hidden = false;
  whole.addEventListener('change', () => { for (const box of boxes) box.checked = whole.checked; tell(); });
  form.addEventListener('change', tell);
  tell();
}

// A form whose answer is a file leaves the page standing: afterwards show it as it is now.
for (const form of document.querySelectorAll('form[data-download]')) {
  form.addEventListener('submit', () => setTimeout(() => location.reload(), 3000));
}

// The link that is shown once is selected when it is entered, ready to be copied.
for (const field of document.querySelectorAll('input.once')) field.addEventListener('focus', () => field.select());
