const escapes = {{ escapes | tojson }};
const said = document.getElementById("said");
const texts = (row) => [...row.cells].filter((cell) => !cell.matches(".tool")).map((cell) => cell.textContent.trim());
const linesOf = (part) => [...part.querySelectorAll("tr[data-method]")];
const shown = (part) => linesOf(part).filter((row) => !row.hidden);
const latex = (text) => [...text].map((one) => escapes[one] ?? one).join("");
const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
const forms = {
  csv: {
    row: (cells) => cells.map(quoted).join(","),
    table: (head, groups) => [
      forms.csv.row(["setting", ...head]),
      ...groups.flatMap(([place, rows]) => rows.map((row) => forms.csv.row([place, ...row]))),
    ],
  },
  latex: {
    row: (cells) => cells.map(latex).join(" & ") + " \\\\",
    table: (head, groups) => [
      `\\begin{tabular}{l${"r".repeat(head.length - 1)}}`,
      "\\toprule",
      forms.latex.row(head),
      ...groups.flatMap(([place, rows]) => [
        "\\midrule",
        `\\multicolumn{${head.length}}{l}{${latex(place)}} \\\\`,
        ...rows.map(forms.latex.row),
      ]),
      "\\bottomrule",
      "\\end{tabular}",
    ],
  },
};
const copy = async (text, what) => {
  delete said.dataset.copied;
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // no permission, or an old browser
    const area = document.body.appendChild(document.createElement("textarea"));
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  said.dataset.copied = text;
  said.textContent = `${what} copied`;
};
const button = (text, action) => {
  const made = document.createElement("button");
  made.textContent = text;
  made.addEventListener("click", action);
  return made;
};
const compare = (a, b) => {  // numbers come before words
  const [x, y] = [a, b].map((text) => Number.parseFloat(text.replace("−", "-")));
  const [wordA, wordB] = [x, y].map(Number.isNaN);
  return wordA - wordB || (wordA ? a.localeCompare(b) : x - y);
};
const sort = (table, head, column) => {
  const down = head.getAttribute("aria-sort") !== "descending";
  for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  for (const body of table.tBodies) {
    const key = (row) => row.cells[column].textContent.trim();
    const lacks = (row) => key(row) === "–";
    const order = (a, b) => lacks(a) - lacks(b) || (down ? -1 : 1) * compare(key(a), key(b));
    body.append(...linesOf(body).sort(order));
  }
  said.textContent = `sorted by ${head.textContent}, ${down ? "descending" : "ascending"}`;
};
for (const section of document.querySelectorAll("section.results")) {
  const [tools, table] = [section.querySelector(".tools"), section.querySelector("table.main")];
  const [filter, form] = [tools.querySelector("input[type=search]"), tools.querySelector("select")];
  const rows = linesOf(table);
  const apply = () => {
    const off = [...tools.querySelectorAll("input:not(:checked)[type=checkbox]")].map((box) => box.value);
    for (const one of section.querySelectorAll("[data-method]")) one.hidden = off.includes(one.dataset.method);
    const words = filter.value.toLowerCase();
    for (const row of rows) {
      row.hidden ||= !`${row.parentElement.dataset.place} ${texts(row).join(" ")}`.toLowerCase().includes(words);
    }
    for (const body of table.tBodies) body.hidden = !shown(body).length;
    said.textContent = `${shown(table).length} of ${rows.length} lines shown`;
  };
  tools.addEventListener("input", (event) => event.target !== form && apply());
  const heads = [...table.tHead.rows[1].cells].filter((head) => !head.matches(".tool"));
  tools.append(button("Copy table", () => {
    const groups = [...table.tBodies].filter((body) => !body.hidden)
      .map((body) => [body.dataset.place, shown(body).map(texts)]);
    const lines = forms[form.value].table(heads.map((head) => head.dataset.name), groups);
    copy(`${lines.join("\n")}\n`, "table");
  }));
  for (const row of rows) {
    const again = button("Copy", () => copy(forms[form.value].row(texts(row)), "line"));
    again.setAttribute("aria-label", `Copy the line of ${row.dataset.method}, ${row.parentElement.dataset.place}`);
    row.querySelector(".tool").append(again);
  }
  heads.forEach((head, column) => {
    head.replaceChildren(button(head.textContent.trim(), () => sort(table, head, column)));
  });
  tools.hidden = false;
}
