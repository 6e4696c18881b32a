package qupath.lib.images

import qupath.lib.objects.hierarchy.PathObjectHierarchy

/** Stub of QuPath's class. */
class ImageData<T> {
    enum ImageType { BRIGHTFIELD_H_DAB, BRIGHTFIELD_H_E, UNSET }

    ImageType imageType = ImageType.UNSET
    PathObjectHierarchy hierarchy
    ImageServer server
}

/** Stub of QuPath's interface. */
class ImageServer<T> {
    int width
    int height

    void close() { }
}
