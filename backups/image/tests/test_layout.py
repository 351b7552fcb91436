import unittest

from pgs_backup import layout


class Names(unittest.TestCase):
    def test_a_segment_is_24_digits_and_nothing_else(self):
        self.assertTrue(layout.is_segment("00000001000000A0000000FF"))
        for name in (
            "00000001000000A0000000F",
            "00000001000000A0000000FF.partial",
            "00000001000000a0000000ff",
            "../1",
        ):
            self.assertFalse(layout.is_segment(name), name)
        self.assertFalse(layout.is_segment("00000001000000A0000000FF\n"))

    def test_after_the_last_segment_of_four_gibibytes_comes_the_first_of_the_next(self):
        self.assertEqual(layout.next_segment("0000000200000001000000FE"), "0000000200000001000000FF")
        self.assertEqual(layout.next_segment("0000000200000001000000FF"), "000000020000000200000000")

    def test_a_position_lies_in_a_segment(self):
        self.assertEqual(layout.segment_at("00000003", "1/A0000028"), "0000000300000001000000A0")
        with self.assertRaises(layout.Failure):
            layout.segment_at("00000003", "1/A0000028; rm")

    def test_a_tenant_is_neither_a_path_nor_an_option(self):
        for tenant in ("../acme", "-acme", "", "acme/x", "acme\n", "ACME"):
            with self.assertRaises(layout.Failure):
                layout.check_tenant(tenant)
        self.assertEqual(layout.check_tenant("a-1"), "a-1")
