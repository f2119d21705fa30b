// Uploading a file with its progress: by choosing it, or by dropping it on the form.

import { toast } from "./page.js";

const form = document.getElementById("upload");
const input = document.getElementById("upload-file");
const part = (name) => document.getElementById(`upload-${name}`);
const maxBytes = Number(form.dataset.maxBytes);
// What is trained on as it lies there; everything else is to be prepared first.
const TRAINED = /\.(jsonl|ndjson)$/i;
let request = null;

function show(problem) {
  part("problem").textContent = problem;
  part("problem").hidden = !problem;
}

function finish() {
  request = null;
  input.value = "";
  part("state").hidden = true;
}

function upload(file) {
  if (!file || request) return;
  show("");
  if (file.size > maxBytes) {
    show(`${file.name} has ${file.size} bytes; this engine accepts at most ${maxBytes}.`);
    input.value = "";
    return;
  }
  const body = new FormData();
  const purpose = TRAINED.test(file.name) ? "fine-tune" : "user_data";
  body.append("purpose", purpose);
  body.append("file", file, file.name);
  part("name").textContent = file.name;
  part("progress").value = 0;
  part("state").hidden = false;
  request = new XMLHttpRequest();
  request.open("POST", "/dashboard/v1/files");
  request.setRequestHeader("x-form-token", document.querySelector("meta[name=form-token]").content);
  request.responseType = "json";
  request.upload.onprogress = (event) => {
    if (event.lengthComputable) part("progress").value = event.loaded / event.total;
  };
  request.onload = () => {
    const { status, response } = request;
    finish();
    if (status === 200) {
      if (form.dataset.check || purpose === "user_data") {
        location.assign(`/data/${encodeURIComponent(response.id)}`);
        return;
      }
      toast(`${file.name} is uploaded.`);
      document.body.dispatchEvent(new CustomEvent("files-changed"));
    } else {
      show(response?.error?.message ?? `The engine answered with status ${status}.`);
    }
  };
  request.onerror = () => {
    finish();
    show("The engine could not be reached. Is it running?");
  };
  request.onabort = finish;
  request.send(body);
}

input.addEventListener("change", () => upload(input.files[0]));
part("stop").addEventListener("click", () => request?.abort());
form.addEventListener("submit", (event) => event.preventDefault());
for (const kind of ["dragenter", "dragover"]) {
  form.addEventListener(kind, (event) => {
    event.preventDefault();
    form.classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) {
  form.addEventListener(kind, (event) => {
    event.preventDefault();
    form.classList.remove("over");
  });
}
form.addEventListener("drop", (event) => upload(event.dataTransfer.files[0]));
// On a slow connection the file may have been chosen before this script had arrived.
upload(input.files[0]);
