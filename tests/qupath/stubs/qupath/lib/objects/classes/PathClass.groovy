package qupath.lib.objects.classes

/** Stub of QuPath's class: `toString` joins the names by colons. */
class PathClass {
    String name

    String toString() { name }
}
