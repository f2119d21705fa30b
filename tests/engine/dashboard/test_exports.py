"""An export from the dashboard: the form, the progress, the download, and who may not."""

from __future__ import annotations

import io
import re
import tarfile
import time
from urllib.parse import urlencode

import pytest

pytestmark = pytest.mark.slow


def test_an_owner_exports_a_model_watches_it_and_downloads_it(owner, member, trained):
    model = trained["fine_tuned_model"]
    link = f"/exports/new?{urlencode({'model': model})}"
    assert f'href="{link}"' in owner.get("/models").text
    form = owner.get(link).text
    assert f'value="{model}"' in form
    assert '<option value="peft"' in form
    refused = owner.post("/exports", model=model, format="merged", quantization="q8_0")
    assert refused.status_code == 400
    assert "Merged weights cannot be q8_0" in refused.text
    sent = owner.post("/exports", model=model, format="peft")
    assert (sent.status_code, sent.headers["location"]) == (303, "/models#exports")
    deadline = time.monotonic() + 120
    while "Download" not in (table := owner.get("/exports").text):
        assert "Cancel" in table, table
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert "nats a token" in table
    address = re.search(r'href="(/dashboard/v1/exports/(export-\w+)/content)"', table)
    assert address
    answer = owner.get(address[1])
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        assert any(name.endswith("adapter_model.safetensors") for name in archive.getnames())
    assert member.get("/exports").status_code == 403
    assert member.get("/exports/new?model=tiny").status_code == 403
    assert member.get(address[1]).status_code == 403
    assert "/exports" not in member.get("/models").text
    assert member.post(f"/exports/{address[2]}/delete").status_code == 403
    assert owner.post(f"/exports/{address[2]}/delete").status_code == 303
    assert address[2] not in owner.get("/exports").text


def test_a_hostile_name_in_the_form_is_text(owner):
    page = owner.get("/exports/new", params={"model": '"><script>alert(1)</script>'}).text
    assert "<script>alert" not in page
