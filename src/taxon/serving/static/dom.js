// Small helpers to build the page's nodes. Text always goes in as text, never as markup.

export const find = (id) => document.getElementById(id);

// element("p", { class: "hint", hidden: true, onclick: f }, "text", otherNode)
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// A table in a box of its own, which scrolls sideways where it is wider than the page.
export function scrolling(table, label) {
  return element(
    "div",
    { class: "scrolling", tabindex: 0, role: "region", "aria-label": label },
    table,
  );
}

export async function copyText(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed here"; // by the browser, on a page without HTTPS
  }
  setTimeout(() => (button.textContent = before), 1500);
}
