package qupath.lib.projects

import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import qupath.lib.images.ImageData
import qupath.lib.images.ImageServer
import qupath.lib.objects.PathObject
import qupath.lib.objects.hierarchy.PathObjectHierarchy

/** Stub of QuPath's interface: a project in one JSON file, written again when it is synchronised. */
class Project<T> {
    File file
    List<ProjectImageEntry> imageList

    static Project read(File file) {
        def images = new JsonSlurper().parse(file, 'UTF-8').images
        new Project(file: file, imageList: images.collect { new ProjectImageEntry(image: it) })
    }

    ProjectImageEntry getEntry(ImageData data) { imageList.find { it.opened.is(data) } }

    void syncChanges() {
        file.setText(JsonOutput.toJson([images: imageList*.image]), 'UTF-8')
    }
}

/** Stub of QuPath's interface. */
class ProjectImageEntry<T> {
    Map image
    ImageData opened

    String getOriginalImageName() { image.name }
    Collection<URI> getURIs() { [new URI(image.uri)] }
    PathObjectHierarchy readHierarchy() {
        new PathObjectHierarchy(objects: image.objects.collect { new PathObject(feature: it) })
    }
    ImageData readImageData() {
        def type = ImageData.ImageType.valueOf(image.type ?: 'UNSET')
        if (image.broken) throw new IOException('no reader for it')
        def server = new ImageServer(width: image.width, height: image.height)
        new ImageData(hierarchy: readHierarchy(), imageType: type, server: server)
    }
    void saveImageData(ImageData data) {
        image.objects = data.hierarchy.objects*.feature
        image.type = data.imageType.name()
    }
    String putMetadataValue(String key, String value) {
        image.metadata = (image.metadata ?: [:]) + [(key): value]
        value
    }
}
