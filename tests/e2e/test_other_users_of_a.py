"""Another trunk that presents A is part of the plan, or named in it: then A is neither revoked nor deleted under it."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.stage import running_lab, staged


async def test_another_trunk_that_uses_a_is_named_or_the_rotation_does_not_start(temporal: str, tmp_path: Path) -> None:
    with running_lab(tmp_path / "a lab", "--other-trunk") as lab:
        async with staged(temporal, lab) as stage:
            edge_id = stage.plan().endpoint("genesys").trunk.partition("/")[0]
            other = f"{edge_id}/trunk-other"
            error = await (await stage.start()).fails()
            assert error.type == "Aborted"
            assert f"other users of A: {other}" in error.message
            assert "also_used_by" in error.message

            a_pem = await stage.leaf_served()
            key_type = 'key_type = "rsa-2048"'
            rotation = await stage.start(stage.plan((key_type, f'{key_type}\nalso_used_by = ["{other}"]')))
            summary = await rotation.completes()
            assert not summary.a_revoked
            status = await rotation.status()
            assert any(a.kind == "certificate_handed_over" and other in a.summary for a in status.alerts)
            edge = stage.adapters.edge("genesys-lab")
            assert await edge.find_certificate(lab.facts["certificate_a"]) is not None
            assert (await edge.read_trunk(other)).pool == (lab.facts["certificate_a"],)
            assert (await stage.adapters.authority("vault-lab").status(a_pem)).ocsp_revoked is False
            assert lab.post("/lab/settle")["violations"] == []
