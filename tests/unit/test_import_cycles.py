"""No module imports itself by way of others, imports for type checkers included."""

import graphlib

import grimp


def test_no_module_is_in_an_import_circle():
    graph = grimp.build_graph("tunesmith", exclude_type_checking_imports=False, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # a CycleError names the modules
