from noiseutils.models.output_size import output_numel


def test_outputs_are_counted_layer_by_layer():
    conv, pooled = 8 * 32 * 32, 8 * 16 * 16
    assert output_numel("babycnn", 1.0, 3, 32) == conv + conv + pooled + pooled + 10
