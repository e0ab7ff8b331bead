"""Network parts against slow, explicit versions of themselves."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from headsplat.nets.attention import attend, split_heads
from headsplat.nets.transformer import CrossBlock, JointBlock
from headsplat.nets.triplane import sample_triplane
from headsplat.nets.vit import VisionTransformer, VitConfig, vit_b14, vit_l14_registers


def test_attention_is_softmax_of_scaled_products() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 5, 6), torch.randn(2, 7, 6), torch.randn(2, 7, 6)
    out = attend(*(split_heads(x, 3) for x in (q, k, v)))
    for head in range(3):
        part = slice(2 * head, 2 * head + 2)
        weights = (q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(2)).softmax(-1)
        torch.testing.assert_close(out[..., part], weights @ v[..., part])


def test_vit_keeps_the_published_names_and_sizes() -> None:
    with torch.device("meta"):
        large, base = VisionTransformer(vit_l14_registers()), VisionTransformer(vit_b14())
    assert len(large.state_dict()) == 343
    assert len(base.state_dict()) == 175
    assert sum(p.numel() for p in base.parameters()) == 86_580_480
    assert base.state_dict()["mask_token"].shape == (1, 768)


def test_vit_taps_do_not_depend_on_which_others_are_asked_for() -> None:
    torch.manual_seed(0)
    vit = VisionTransformer(VitConfig(width=12, depth=3, heads=2, patch=5, grid=4, registers=2)).eval()
    images = torch.rand(2, 3, 15, 20)
    one, two = vit(images, (0, 2))
    assert one.shape == (2, 12, 12)
    torch.testing.assert_close(vit(images, (2,))[0], two, rtol=0, atol=0)
    assert not torch.allclose(one, two)


def test_vit_places_patches_row_by_row() -> None:
    torch.manual_seed(0)
    vit = VisionTransformer(VitConfig(width=4, depth=1, heads=1, patch=2, grid=3)).eval()
    images = torch.rand(1, 3, 6, 6)
    tokens = vit.tokens(images)
    row, column = 1, 2
    patch = images[0, :, 2:4, 4:6].flatten()
    expected = vit.patch_embed.proj.weight.flatten(1) @ patch + vit.patch_embed.proj.bias
    place = 1 + 3 * row + column
    torch.testing.assert_close(tokens[0, place], expected + vit.pos_embed[0, place])


def test_positions_of_the_stored_size_are_untouched_and_a_constant_stays_one() -> None:
    vit = VisionTransformer(VitConfig(width=3, depth=1, heads=1, patch=2, grid=5))
    assert vit.positions(5, 5) is vit.pos_embed
    with torch.no_grad():
        vit.pos_embed.fill_(0.7)
    torch.testing.assert_close(vit.positions(4, 7), torch.full((1, 29, 3), 0.7))


def rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return weight * x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def test_joint_block_attends_over_both_streams() -> None:
    torch.manual_seed(0)
    width, heads = 8, 2
    block = JointBlock(width, heads, last=True)
    x, context = torch.randn(1, 5, width), torch.randn(1, 3, width)
    a = block.attn
    xn = F.layer_norm(x, (width,), block.norm1.weight, block.norm1.bias, 1e-5)
    cn = F.layer_norm(context, (width,), block.norm1_context.weight, block.norm1_context.bias, 1e-5)
    outs = []
    for h in range(heads):
        part = slice(4 * h, 4 * h + 4)
        q = rms(a.to_q(xn)[..., part], a.norm_q.weight)
        k = torch.cat([rms(a.to_k(xn)[..., part], a.norm_k.weight),
                       rms(a.add_k_proj(cn)[..., part], a.norm_added_k.weight)], 1)  # fmt: skip
        v = torch.cat([a.to_v(xn), a.add_v_proj(cn)], 1)[..., part]
        outs.append((q @ k.transpose(1, 2) / 2).softmax(-1) @ v)
    expected = x + a.to_out[0](torch.cat(outs, -1))
    hidden = block.ff.net[0].proj(F.layer_norm(expected, (width,), eps=1e-6))
    expected = expected + block.ff.net[2](F.gelu(hidden, approximate="tanh"))
    got, passed_on = block(x, context)
    torch.testing.assert_close(got, expected)
    assert passed_on is context


@pytest.mark.parametrize("self_attention", [True, False])
def test_cross_block_lets_points_see_one_another_only_if_asked(self_attention: bool) -> None:
    torch.manual_seed(0)
    block = CrossBlock(8, 2, self_attention=self_attention)
    x, context = torch.randn(1, 6, 8), torch.randn(1, 4, 8)
    changed = x.clone()
    changed[0, 3] += torch.randn(8)
    difference = (block(changed, context)[0] - block(x, context)[0]).abs().amax(-1)[0]
    assert difference[3] > 1e-3
    assert (difference[[0, 1, 2, 4, 5]] > 1e-6).any().item() == self_attention


def test_blocks_do_not_care_about_the_order_of_points() -> None:
    torch.manual_seed(0)
    x, context, order = torch.randn(1, 9, 8), torch.randn(1, 4, 8), torch.randperm(9)
    for block in (JointBlock(8, 2), CrossBlock(8, 2)):
        torch.testing.assert_close(block(x[:, order], context)[0], block(x, context)[0][:, order])


def test_triplane_reads_each_plane_at_its_own_two_coordinates() -> None:
    side = 7
    ramp = (torch.arange(side) + 0.5) / side * 2 - 1
    planes = torch.zeros(1, 3, 2, side, side)
    planes[:, :, 0], planes[:, :, 1] = ramp[None, :], ramp[:, None]
    points = torch.tensor([[[0.3, -0.5, 0.7], [-0.8, 0.1, 0.0]]])
    x, y, z = points.unbind(-1)
    expected = torch.stack([torch.stack(p, -1) for p in ((x, y), (x, z), (y, z))], 2)
    torch.testing.assert_close(sample_triplane(planes, points), expected, atol=1e-6, rtol=0)
