"""jupyter_kernel_test with every sample it takes. A skipped test is a failure."""
import sys
import unittest

import jupyter_kernel_test


class LightcellTests(jupyter_kernel_test.KernelTests):
    kernel_name = "lightcell"
    language_name = "rust"
    file_extension = ".rs"
    code_hello_world = 'println!("hello, world")'
    code_stderr = 'eprintln!("oops")'
    code_page_something = "%gpu?"
    code_generate_error = "let x: i32 = \"no\";"
    code_execute_result = [
        {"code": "6 * 7", "result": "42", "mime": "text/plain"},
        {"code": "String::from(\"x\")", "result": "\"x\"", "mime": "text/plain"},
    ]
    code_display_data = [
        {"code": 'display(&Rich::html("<b>x</b>"));', "mime": "text/html"},
        {"code": 'display(&Rich::png(vec![0x89, 0x50, 0x4e, 0x47, 0xff]));', "mime": "image/png"},
    ]
    completion_samples = [
        {"text": "%g", "matches": {"%gpu"}},
        {"text": "%fit M d --max-ep", "matches": {"--max-epochs"}},
    ]
    complete_code_samples = ["1 + 1", "let x = 1;", "fn f() {}", "%gpu"]
    incomplete_code_samples = ["fn f() {", "let x = (1,", '"abc']
    invalid_code_samples = ["let )", "fn 3() {}"]
    code_inspect_sample = "String"
    code_clear_output = "clear_output(false);"
    code_history_pattern = "6 ? 7"  # no cell of the user's own history
    supported_history_operations = ("tail", "range", "search")


if __name__ == "__main__":
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(LightcellTests)
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    print(f"run {result.testsRun}, failed {len(result.failures) + len(result.errors)}, skipped {len(result.skipped)}")
    for test, why in result.skipped:
        print(f"skipped {test}: {why}")
    sys.exit(0 if result.wasSuccessful() and not result.skipped and result.testsRun > 0 else 1)
